"""Exit status 0 if watchdog or clusters have given a sign of life lately: `python docker/heartbeat.py watch exlab`."""

import os
import sys

import django

sys.path.insert(0, os.getcwd())
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "exlab.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from cleanup.models import Heartbeat  # noqa: E402
from cleanup.policy.watching import AHEAD, SILENT_AFTER  # noqa: E402

now = timezone.now()
beats = Heartbeat.objects.filter(host=settings.EXLAB_HOST, at__gte=now - SILENT_AFTER, at__lte=now + AHEAD)
sys.exit(not set(sys.argv[1:]) <= set(beats.values_list("cluster", flat=True)))
