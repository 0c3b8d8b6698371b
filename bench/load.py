"""People look at pages while clears are at work: how long each waits, with SQLite.

    python bench/load.py --clears 2000 --people 50 --seconds 60

Makes a lab of its own in a temporary directory, starts `manage.py up` there on a port of this host's loopback, queues
the clears, and lets people's browsers ask from a process of their own: 40 % keep the overview open, 30 % the list, 30 %
the page of a batch. Each page asks as often as its templates say, and a person opens another page every 20 s. Prints
the middle, the 95th of a hundred and the longest time of each kind of page in seconds, and what went wrong. Removes all
at the end, also after Ctrl-C. On a busy machine only compare: `--code` names the checkout whose program is asked.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ANOTHER_PAGE_EVERY = 20.0
# Page, what it polls, seconds between two polls.
Kind = tuple[str, str, str, float]
_HTMX = {"HX-Request": "true"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time pages while clears are at work.")
    parser.add_argument("--clears", type=int, default=2_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--code", type=Path, default=HERE.parent.parent)
    parser.add_argument("--ask", help=argparse.SUPPRESS)  # the process of the browsers
    options = parser.parse_args()
    if options.ask:
        _ask_all(json.loads(options.ask), options.people, options.seconds)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what was started ends too
    place = Path(tempfile.mkdtemp(prefix="exlab-load-"))
    try:
        _measure(place, options)
    finally:
        shutil.rmtree(place)  # a lab of this program's own


def _measure(place: Path, options: argparse.Namespace) -> None:
    sys.path.insert(0, str(options.code))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "EXLAB_DATA_DIR": str(place / "data"),
        "DATABASE_URL": f"sqlite:///{place}/db.sqlite3",
        "EXLAB_HOST": "bench",
        "DJANGO_SETTINGS_MODULE": "exlab.settings",
    }
    (place / "data").mkdir()
    scene = {"port": port, **_make(place, options.clears)}
    log = (place / "up.log").open("w")
    up = subprocess.Popen(
        [sys.executable, "-W", "ignore", "manage.py", "up", "--bind", f"127.0.0.1:{port}"],
        cwd=options.code,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        _wait(port, up, place / "up.log")
        scene |= _queue()
        before = _cleared()
        asking = [sys.executable, str(HERE), "--ask", json.dumps(scene)]
        subprocess.run([*asking, "--people", str(options.people), "--seconds", str(options.seconds)], check=True)
        print(f"clears done meanwhile: {_cleared() - before} of {options.clears}")
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signal.SIGKILL)
        log.close()


def _make(place: Path, number: int) -> dict[str, Any]:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client
    from django.utils import timezone

    from cleanup.lab.roots import registration
    from cleanup.runs import discovery, run_status
    from tests.tools.lab import Lab

    call_command("migrate", verbosity=0)
    lab, now = Lab(place / "lab"), timezone.now()
    for each in range(number):
        instant = f"2026-{each // 672 % 10 + 1:02}-{each // 24 % 28 + 1:02}T{each % 24:02}-00"
        lab.run(f"E{each % 10:02}/P{each % 40:03}/Runs/Run_{instant}")
    root = registration.register(
        "lab", str(lab.staging), nas_path=str(lab.nas), allow_same_filesystem=True, accept_empty=True, now=now
    )
    discovery.discover(root, now=now)
    run_status.judge_stale(now)
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return {"cookies": {name: morsel.value for name, morsel in client.cookies.items()}}


def _queue() -> dict[str, Any]:
    import uuid

    from django.contrib.auth.models import User
    from django.utils import timezone

    from cleanup.clears import batches, preview
    from cleanup.models import Run

    user, keys, batch = User.objects.get(), list(Run.objects.here().order_by("pk").values_list("pk", flat=True)), None
    for first in range(0, len(keys), preview.MAX_RUNS):
        asked, now = preview.RequestedRuns.of(keys[first : first + preview.MAX_RUNS]), timezone.now()
        shown = preview.preview(user, asked, now)
        typed = shown.number if shown.confirms else None
        batch = batches.place(user, asked, digest=shown.digest, key=uuid.uuid4(), typed=typed, now=now)
    return {"batch": str(batch.pk) if batch else "", "run": keys[-1]}


def _cleared() -> int:
    from cleanup.models import Run

    return Run.objects.filter(state="cleared").count()


def _wait(port: int, up: "subprocess.Popen[bytes]", log: Path) -> None:
    for _each in range(600):
        if up.poll() is not None:
            raise SystemExit(log.read_text()[-2000:])
        try:
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            asked.request("GET", "/login/")
            if asked.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("nothing is served")


# The process of the browsers


def _ask_all(scene: dict[str, Any], people: int, seconds: float) -> None:
    batch = f"/batches/{scene['batch']}/"
    kinds: list[Kind] = [
        *[("overview", "/", "/overview/now/", 30.0)] * 4,
        *[("list", "/runs/", "/runs/changes/", 30.0)] * 3,
        *[("batch", batch, f"{batch}progress/", 1.0)] * 3,
    ]
    taken: defaultdict[str, list[float]] = defaultdict(list)
    wrong: list[str] = []
    end = time.monotonic() + seconds
    browsers = [
        threading.Thread(target=_browse, args=(scene, kinds[each % len(kinds)], each, end, taken, wrong))
        for each in range(people)
    ]
    for browser in browsers:
        browser.start()
    for browser in browsers:
        browser.join()
    for name in [*sorted(taken), "all"]:
        times = sorted(time for kind, some in taken.items() for time in some if name in (kind, "all"))
        of_hundred = times[min(len(times) * 95 // 100, len(times) - 1)]
        middle = statistics.median(times)
        print(f"{name:14} {len(times):6}  p50 {middle:6.2f}  p95 {of_hundred:6.2f}  max {times[-1]:6.2f}")
    print(f"errors: {len(wrong)} {sorted(set(wrong))[:5]}", flush=True)


def _browse(
    scene: dict[str, Any], kind: Kind, number: int, end: float, taken: dict[str, list[float]], wrong: list[str]
) -> None:
    name, page, polled, every = kind
    chance = random.Random(number)  # the same each time
    time.sleep(chance.random() * min(every, 10))
    while (now := time.monotonic()) < end:
        since, leaves_at = _get(scene, page, {}, name, taken, wrong), now + ANOTHER_PAGE_EVERY * (0.5 + chance.random())
        while (now := time.monotonic()) < min(end, leaves_at):
            time.sleep(max(0, min(every, min(end, leaves_at) - now)))
            if time.monotonic() < min(end, leaves_at):
                since = _get(scene, f"{polled}?since={since}", _HTMX, f"{name}, poll", taken, wrong) or since


def _get(
    scene: dict[str, Any],
    address: str,
    headers: dict[str, str],
    name: str,
    taken: dict[str, list[float]],
    wrong: list[str],
) -> str:
    """Ask once; returns what the server says of the next question."""
    cookies = "; ".join(f"{name}={value}" for name, value in scene["cookies"].items())
    begun = time.monotonic()
    try:
        browser = http.client.HTTPConnection("127.0.0.1", scene["port"], timeout=60)
        browser.request("GET", address, headers={"Cookie": cookies, **headers})
        answer = browser.getresponse()
        text = answer.read().decode()
        browser.close()
    except OSError as error:
        wrong.append(f"{name}: {error}")
        return ""
    taken[name].append(time.monotonic() - begun)
    if answer.status not in (200, 204):
        wrong.append(f"{name}: {answer.status}")
    return answer.getheader("Exlab-Since") or text.partition('data-since="')[2].partition('"')[0]


if __name__ == "__main__":
    main()
