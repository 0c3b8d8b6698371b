"""The one app."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CleanupConfig(AppConfig):
    name = "cleanup"
    verbose_name = "ExLab staging"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from cleanup import append_only, checks, schedules  # noqa: F401 (checks register themselves)

        post_migrate.connect(append_only.install, sender=self)
        post_migrate.connect(schedules.create, sender=self)
