"""The admin: mostly read-only tables."""

from django.contrib import admin

from cleanup.admin import clears, lab, queue, runs, sweeps

__all__ = ["clears", "lab", "queue", "runs", "sweeps"]

admin.site.site_header = "ExLab staging: administration"
admin.site.site_title = "ExLab staging"
admin.site.index_title = "Tables"
admin.site.enable_nav_sidebar = False
