"""Exit status 0 if watchdog or clusters have given a sign of life lately: `python docker/heartbeat.py watch exlab`."""

import os
import sys

import django

sys.path.insert(0, os.getcwd())

from exlab import starting

with starting.guarded(status=1):
    django.setup()

    from django.conf import settings
    from django.utils import timezone

    from cleanup.models import Heartbeat
    from cleanup.rules.liveness import AHEAD, SILENT_AFTER

    now = timezone.now()
    beats = Heartbeat.objects.filter(host=settings.EXLAB_HOST, at__gte=now - SILENT_AFTER, at__lte=now + AHEAD)
    sys.exit(not set(sys.argv[1:]) <= set(beats.values_list("cluster", flat=True)))
