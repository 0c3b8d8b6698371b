"""Take the pictures of the documentation anew: the demonstration lab of `up --demo`, in a real Chromium.

    .venv/bin/python docs/take_screenshots.py [NAME ...]

The pictures show the disk of the temporary directory, as full as it is. `pngquant` makes them as small as the tests
want them. All else is taken away.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import make_guide
from playwright.sync_api import Browser, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
PICTURES = CHECKOUT / "static/cleanup/guide"
CHROMIUM = os.environ.get("CHROMIUM_PATH") or shutil.which("chromium") or shutil.which("google-chrome")


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
    Picture("runs", "/runs/", height=760),
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
    with _served() as (address, passwords), sync_playwright() as playwright:
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
def _served() -> Iterator[tuple[str, dict[str, str]]]:
    """The program as a lab tries it; gives its address and the passwords of the demonstration."""
    data = Path(tempfile.mkdtemp(prefix="exlab-pictures-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(CHECKOUT / "manage.py"), "up", "--demo", "--json", "--bind", f"127.0.0.1:{port}"]
    own = {"EXLAB_DATA_DIR": str(data), "DATABASE_URL": f"sqlite:///{data}/db.sqlite3", "EXLAB_HOST": "labpc-04"}
    up = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **own}, text=True)
    try:
        told = json.loads(up.stdout.readline() if up.stdout else "")
        time.sleep(8)  # the first timed tasks: a discovery, a sweep, the watchdog's first look
        yield told["address"].rstrip("/"), told["users"]
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
        shutil.rmtree(data)


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
