"""The one app."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, post_save, pre_migrate


class CleanupConfig(AppConfig):
    name = "cleanup"
    verbose_name = "ExLab staging"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from cleanup import checks  # noqa: F401  # they register themselves
        from cleanup.lab import lock_waits, task_queues
        from cleanup.lab.people import roles
        from cleanup.models import Run, changes, search_words, triggers
        from cleanup.runs import picks

        connection_created.connect(lock_waits.limit)
        pre_migrate.connect(lock_waits.lift, sender=self)
        pre_migrate.connect(triggers.lift, sender=self)
        pre_migrate.connect(changes.lift, sender=self)
        post_migrate.connect(lock_waits.restore, sender=self)
        post_migrate.connect(triggers.install, sender=self)
        post_migrate.connect(changes.install, sender=self)
        post_migrate.connect(task_queues.create, sender=self)
        post_migrate.connect(roles.keep_alike, sender=self)
        post_save.connect(search_words.keep_new, sender=Run, dispatch_uid="cleanup.search_words")
        user_logged_in.connect(picks.bring_back, dispatch_uid="cleanup.picks")
