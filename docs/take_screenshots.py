"""Take the pictures of the documentation anew: the demonstration lab on a small disk of its own, in a real Chromium.

    .venv/bin/python docs/take_screenshots.py [NAME ...]

As root it mounts a tmpfs for the lab, so that its disk is as full as the pictures show; as another user the disk of the
temporary directory is shown. `pngquant` makes the pictures as small as the tests want them. All else is taken away.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import make_guide
from playwright.sync_api import Browser, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
PICTURES = CHECKOUT / "static/cleanup/guide"
CHROMIUM = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("google-chrome")
# A demonstration whose runs really take their room has to be a small one.
SMALLER = 16


@dataclass(frozen=True)
class Picture:
    """One picture of the documentation: page, user, size and theme, what is done first, and whether it is printed."""

    name: str
    path: str
    user: str = "operator"
    width: int = 1280
    height: int = 860
    theme: str = "light"
    act: Callable[[Page], None] = lambda page: None
    printed: bool = False


def _open_first(selector: str) -> Callable[[Page], None]:
    def act(page: Page) -> None:
        page.locator(selector).first.click()
        page.wait_for_load_state("networkidle")

    return act


def _open_dialog(page: Page) -> None:
    page.locator("tr.go a.button", has_text="Clear").first.click()
    page.locator("dialog[open]").wait_for()


def _open_bench(page: Page) -> None:
    page.goto(page.locator("a[href^='/bench/']").first.evaluate("link => link.href"))


PICTURES_TAKEN = [
    Picture("overview", "/", height=620),
    Picture("overview-dark", "/", height=620, theme="dark"),
    Picture("overview-phone", "/", width=390, height=844),
    Picture("runs", "/runs/"),
    Picture("clear-one", "/runs/", act=_open_dialog),
    Picture("clear-many", "/clear/?root=demo"),
    Picture("run-blocked", "/runs/?verdict=block", act=_open_first("tr.block a.leaf")),
    Picture("bench", "/instruments/", width=390, height=844, act=_open_bench),
    Picture("problems", "/problems/"),
    Picture("policies", "/policies/", user="admin"),
    Picture("freed", "/audit/", user="admin", height=1100),
    Picture("freed-dark", "/audit/", user="admin", height=1100, theme="dark"),
    Picture("freed-phone", "/audit/", user="admin", width=390, height=1100),
    Picture("freed-print", "/audit/", user="admin", width=794, height=1123, printed=True),
]


def main(names: list[str]) -> None:
    wanted = [picture for picture in PICTURES_TAKEN if not names or picture.name in names]
    with _lab() as data, _served(data) as (address, passwords), sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for picture in wanted:
            path = PICTURES / f"{picture.name}.png"
            _take(browser, picture, address, passwords[picture.user], path)
            if not shutil.which("pngquant"):
                print(f"{path.name} stays large: pngquant is not installed", file=sys.stderr)  # noqa: T201
            else:
                subprocess.run(["pngquant", "--force", "--ext", ".png", "--quality", "60-95", path], check=True)  # noqa: S607
            print(f"{path.name}: {path.stat().st_size // 1000} kB")  # noqa: T201
        browser.close()
    make_guide.write()  # its pages name the sizes of the pictures


@contextmanager
def _lab() -> Iterator[Path]:
    """A data directory that holds a demonstration lab whose staged files really take their room."""
    data = Path(tempfile.mkdtemp(prefix="exlab-pictures-"))
    mounted = os.geteuid() == 0
    try:
        if mounted:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m,mode=700", "tmpfs", data], check=True)  # noqa: S607
        _prepare(data)
        yield data
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", data], check=True)  # noqa: S607
        shutil.rmtree(data)


def _prepare(data: Path) -> None:
    os.environ["EXLAB_DATA_DIR"] = str(data)
    os.environ["DATABASE_URL"] = f"sqlite:///{data}/db.sqlite3"
    os.environ["DJANGO_SETTINGS_MODULE"] = "exlab.settings"
    os.environ["EXLAB_HOST"] = "labpc-04"
    sys.path.insert(0, str(CHECKOUT))
    import django
    from django.core.management import call_command
    from django.utils import timezone

    django.setup()
    from cleanup import demo

    demo._SHAPES.update({name: replace(shape, size=shape.size // SMALLER) for name, shape in demo._SHAPES.items()})
    call_command("migrate", verbosity=0)
    now = timezone.now()
    base = data / "demo"
    base.mkdir()
    demo.build(base, now)
    for path in (base / "staging").rglob("*"):
        found = path.stat()
        if path.is_file() and found.st_size:
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, found.st_size)
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    demo.make(now)
    _measure_for_a_week(now)


def _measure_for_a_week(now: object) -> None:
    """Samples as a disk leaves them that was watched while these runs arrived."""
    from cleanup.lab.roots import disk_usage
    from cleanup.models import DiskUsage, Run, StagingRoot

    root = StagingRoot.objects.get()
    disk_usage.measure(root, now)  # type: ignore[arg-type]
    today = DiskUsage.objects.latest("at")
    for days in range(1, 8):
        at = today.at - timedelta(days=days)
        later = Run.objects.here().filter(verified_at__gt=at).values_list("bytes", flat=True)
        arrived = sum(filter(None, later))
        DiskUsage.objects.create(
            root=root,
            at=at,
            total_bytes=today.total_bytes,
            free_bytes=min(today.free_bytes + arrived, today.total_bytes),
        )


@contextmanager
def _served(data: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The program as a lab runs it; gives its address and the passwords of the demonstration."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(CHECKOUT / "manage.py"), "up", "--demo", "--bind", f"127.0.0.1:{port}"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = ""
        for line in up.stdout or ():
            said += line
            if "is at http" in line:
                break
        kept = (data / "demo" / "passwords.txt").read_text()
        time.sleep(8)  # the first timed tasks: a discovery, a sweep, the watchdog's first look
        yield f"http://127.0.0.1:{port}", dict(re.findall(r"(\w+): (\S+)", kept))
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)


def _take(browser: Browser, picture: Picture, address: str, password: str, path: Path) -> None:
    size = {"width": picture.width, "height": picture.height}
    context = browser.new_context(viewport=size, color_scheme=picture.theme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{address}/login/")
    page.fill("[name=username]", picture.user)
    page.fill("[name=password]", password)
    page.click("main button[type=submit]")
    page.goto(f"{address}{picture.path}")
    picture.act(page)
    if picture.printed:
        page.emulate_media(media="print")
    page.screenshot(path=path)
    context.close()


if __name__ == "__main__":
    main(sys.argv[1:])
