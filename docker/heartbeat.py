"""Exit status 0 if a task cluster has run a task lately: `python docker/heartbeat.py exlab-clear`."""

import os
import sys
from datetime import timedelta

import django

sys.path.insert(0, os.getcwd())
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "exlab.settings")
django.setup()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from cleanup.models import Heartbeat  # noqa: E402

since = timezone.now() - timedelta(minutes=3)
sys.exit(not Heartbeat.objects.filter(cluster=sys.argv[1], host=settings.EXLAB_HOST, at__gte=since).exists())
