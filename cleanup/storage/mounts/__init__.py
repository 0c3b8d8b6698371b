"""Mounts: what lies beneath a path, and whether staging and NAS are one storage."""
