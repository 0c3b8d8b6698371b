"""Answers requests on their host. Looks are made here, by a child process; all else is done in a process of its own."""

import contextlib
import logging
import os
import subprocess
import sys
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from cleanup.lab.people import permissions
from cleanup.models import RootRequest, RootRequestKind, RootRequestPhase, StagingRoot
from cleanup.runs.root_requests import asking, check_lines, nas_lines
from cleanup.storage.nas import top_look
from cleanup.storage.nas.top_look import TopLook

logger = logging.getLogger(__name__)

DEED_PROCESS = "cleanup.runs.root_requests.deed_process"
# A re-registration reads the record of each run; the command `reregister` may take longer.
DEED_SECONDS = 1200.0
# A path that hung is not looked at again before that.
NOT_AGAIN = timedelta(minutes=5)
_QUEUED, _RUNNING, _DONE = RootRequestPhase.QUEUED, RootRequestPhase.RUNNING, RootRequestPhase.DONE

Answer = dict[str, Any]


def answer(key: str) -> str:
    """Carry out one request, once; returns what to log. Harmless for one that is taken, dropped or too old."""
    request = RootRequest.objects.select_related("root").filter(pk=key).first()
    now = timezone.now()
    if request is None:
        return "this request is not kept any more"
    if (refusal := _refusal(request, now)) is not None:
        request.advance(_QUEUED, _DONE, now=now, answer={"problem": refusal})
        return f"{request}: {refusal}"
    if not request.advance(_QUEUED, _RUNNING, now=now):
        return f"{request}: dropped, or taken by another worker"
    if request.kind in (RootRequestKind.LOOK_STAGING, RootRequestKind.LOOK_NAS):
        try:
            found = _look(request, now)
        except OSError as error:
            found = {"problem": f"It cannot be looked at: {os.strerror(error.errno or 0)}."}
        except Exception as error:  # the page must not wait for ever; it is raised again
            fault: Answer = {"problem": f"It failed: {type(error).__name__}, see the log of the worker."}
            request.advance(_RUNNING, _DONE, now=timezone.now(), answer=fault)
            raise
        request.advance(_RUNNING, _DONE, now=timezone.now(), answer=found)
    else:
        _do_apart(request)
    logger.info("%s: answered", request)
    return f"{request}: answered"


def _refusal(request: RootRequest, now: datetime) -> str | None:
    if asking.is_untaken(request, now):
        return asking.UNTAKEN
    if request.host != settings.EXLAB_HOST and not asking.any_host_may(request.kind, request.host, now):
        return f"A worker of {settings.EXLAB_HOST} has got it: {request.host} has no worker of its own."
    actor = User.objects.filter(username=request.actor).first()
    if actor is None or not permissions.manages_roots(actor):
        return f"{request.actor} may not manage staging roots any more."
    return None


def _look(request: RootRequest, now: datetime) -> Answer:
    path = str(request.asked["path"])
    if _hung_lately(request, path, now):
        return {"problem": "This path did not answer a moment ago. It is not looked at again for five minutes."}
    if request.kind == RootRequestKind.LOOK_NAS:
        return _look_at_nas(request, path)
    root = request.root or StagingRoot(name=str(request.asked.get("name", "")), host=request.host)
    look = _ask(path, count=True)
    lines = check_lines.of_staging(look, root)
    return _as_answer(lines, look)


def _look_at_nas(request: RootRequest, path: str) -> Answer:
    assert request.root is not None  # noqa: S101
    equipment, own = (str(request.asked.get(name, "")) for name in ("equipment", "own_layout"))
    seen = nas_lines.as_it_would_be(request.root, path, equipment, dict(request.asked.get("flags", {})))
    wanted = nas_lines.twins(seen, nas_lines.verified(request.root, equipment), own)
    look = _ask(path, twins=sorted({twin for paths in wanted.values() for twin in paths}))
    layouts = nas_lines.counts(wanted, look, seen.nas_layout)
    lines = nas_lines.of_nas(look, seen, equipment, layouts)
    return {**_as_answer(lines, look), "layouts": layouts if check_lines.fits(lines) else []}


def _ask(path: str, *, twins: list[str] | None = None, count: bool = False) -> TopLook:
    return top_look.ask(path, seconds=float(settings.EXLAB_NAS_TIMEOUT), twins=twins, count=count)


def _as_answer(lines: list[check_lines.CheckLine], look: TopLook) -> Answer:
    found = {"lines": [line.as_json() for line in lines], "fits": check_lines.fits(lines)}
    return {**found, "empty": look.empty, "hung": look.hung, "runs": look.runs}


def _hung_lately(request: RootRequest, path: str, now: datetime) -> bool:
    lately = RootRequest.objects.filter(host=request.host, answered_at__gt=now - NOT_AGAIN)
    return lately.filter(asked__path=path, answer__hung=True).exists()


def _do_apart(request: RootRequest) -> None:
    """A mount that hangs holds up no worker: the process is killed and left."""
    child = subprocess.Popen(
        [sys.executable, "-m", DEED_PROCESS, str(request.pk)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # a reader of our standard error would wait for a child that hangs
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        start_new_session=True,
    )
    said = "The process that did it ended without an answer; look at the staging root before you try again."
    try:
        child.wait(timeout=DEED_SECONDS)
    except subprocess.TimeoutExpired:
        said = f"It did not end within {DEED_SECONDS / 60:.0f} minutes: does a mount hang? Nothing more is done."
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.3)
    request.advance(_RUNNING, _DONE, now=timezone.now(), answer={"problem": said})


def request_of(key: str) -> RootRequest | None:
    """The request with this key, for a page or a process; None for no key of one."""
    try:
        return RootRequest.objects.select_related("root").filter(pk=uuid.UUID(key)).first()
    except ValueError:
        return None
