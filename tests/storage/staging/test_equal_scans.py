"""The fast scan sees exactly what a plain and slow one sees, of every kind of entry, as root and as another user."""

import os
import random
import socket
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cleanup.storage import handles, linux
from cleanup.storage.staging import run_tree, tree_size
from cleanup.storage.staging.desktop_files import APPLE_DOUBLE
from cleanup.storage.staging.run_tree import Scan
from tests.storage.children import NOBODY, as_ordinary_user, give_away, mount, with_own_mounts
from tests.storage.staging import plain_scan
from tests.storage.staging.trees import Open

pytestmark = pytest.mark.one_engine(by="function")

TREES = 25

NAMES = [
    b".DS_Store", b"Thumbs.DB", b"desktop.ini", b"@eaDir", b"._well", b"._other", b".exlab-hold", b".exlab-wizard",
    b"ingest.json", b"ingest.json.lock", b"a.json.lock", b"\xff\xfe", b"line\nbreak", b"-rf", b" ", b"back\\slash",
    b"\xf0\x9f\x94\xac", b"\xee\x80\x80", b"...", b"n" * 255,
]  # fmt: skip
KINDS = ("file", "file", "file", "folder", "folder", "link", "fifo", "socket", "sparse", "same", "elsewhere", "device")
MODES = (0o644, 0o644, 0o600, 0o000, 0o040, 0o004)
FOLDER_MODES = (0o755, 0o755, 0o755, 0o555, 0o000, 0o300, 0o400, 0o1777, 0o1755, 0o777)


def grow(
    folder: bytes,
    chance: random.Random,
    outside: bytes,
    made: list[bytes],
    depth: int = 0,
    kinds: Sequence[str] = KINDS,
) -> None:
    """Fill a folder with entries of every kind."""
    names = {*chance.sample(NAMES, 5), *(b"well_%d.bin" % chance.randrange(99) for _ in range(4))}
    for name in sorted(names):
        path, kind = folder + b"/" + name, chance.choice(kinds)
        if kind == "folder" and depth < 3:
            os.mkdir(path)
            grow(path, chance, outside, made, depth + 1, kinds)
        else:
            make(kind, path, chance, outside, made)
        is_folder = os.path.isdir(path) and not os.path.islink(path)
        if os.geteuid() == 0 and chance.random() < 0.5:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        if is_folder or not os.path.islink(path):
            os.chmod(path, chance.choice(FOLDER_MODES if is_folder else MODES))
        if chance.random() < 0.3:
            os.utime(path, ns=(0, chance.randrange(-(10**18), 4 * 10**18)), follow_symlinks=False)


def make(kind: str, path: bytes, chance: random.Random, outside: bytes, made: list[bytes]) -> None:
    if kind == "link":
        os.symlink(chance.choice([b"nowhere", b"..", b"/etc/passwd", outside]), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        above = os.open(os.path.dirname(path), os.O_RDONLY)  # a socket's path must be short
        with handles.opened(above), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{above}/s")
        os.rename(os.path.dirname(path) + b"/s", path)
    elif kind == "device" and os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "same" and made:
        os.link(chance.choice(made), path)
    elif kind == "elsewhere":
        os.link(outside, path)
    else:
        with open(path, "wb") as file:
            file.write(chance.choice([b"", b"x", APPLE_DOUBLE + b"rest", bytes(chance.randrange(20_000))]))
            file.truncate(1 << 34) if kind == "sparse" else None
        made.append(path)


def both(path: Path) -> tuple[Scan, Scan]:
    run = os.open(path, os.O_RDONLY)
    with handles.opened(run):
        return looked_at(run)


def looked_at(run: int) -> tuple[Scan, Scan]:
    """Return both scans of an open run, after a comparison of the counts and sizes."""
    plain, fast = plain_scan.scan(run), run_tree.scan(run)
    counted = plain_scan.count(plain.entries)
    assert run_tree.count(fast.entries) == counted
    try:
        assert run_tree.size_of(run) == counted
        assert plain.unseen == ()
    except OSError as error:
        assert plain.unseen[0].detail in str(error)
    return plain, fast


def closing(path: Path) -> None:
    """Let pytest remove what was closed."""
    subprocess.run(["chmod", "-R", "u+rwX", path], check=True, stderr=subprocess.DEVNULL)


def test_of_random_trees_with_every_finding_in_them(tmp_path: Path) -> None:
    """Costs a second."""
    outside, seen = tmp_path / "outside", set[str]()
    outside.write_bytes(b"elsewhere")
    try:
        for seed in range(TREES):
            run = tmp_path / f"run{seed}"
            run.mkdir()
            grow(os.fsencode(run), random.Random(seed), os.fsencode(outside), [])
            plain, fast = both(run)
            assert fast == plain
            opened = os.open(run, os.O_RDONLY)
            with handles.opened(opened):
                plain, fast = as_ordinary_user(lambda run=opened: looked_at(run))
            assert fast == plain
            seen |= kinds_in(fast)
    finally:
        closing(tmp_path)
    expected = {"unsafe_path link", "special_file", "Permission denied", "may not be read"}
    expected |= {"linked", "desktop", "unseen", "held"}
    if os.geteuid() == 0:
        expected |= {"may not be emptied", "may not be removed"}
    assert expected <= seen, "equal scans of these trees would say little"


def kinds_in(scanned: Scan) -> set[str]:
    problems = " ".join(f"{problem.reason} {problem.detail}" for problem in scanned.problems)
    words = ("Permission denied", "may not be read", "may not be emptied", "may not be removed", "special_file")
    found = {word for word in words if word in problems}
    kinds = {"unsafe_path link": "is a symbolic link" in problems, "held": scanned.is_held}
    kinds |= {"desktop": bool(scanned.desktop), "unseen": bool(scanned.unseen)}
    kinds |= {"linked": any(entry.nlink > 1 for entry in scanned.entries)}
    return found | {kind for kind, is_there in kinds.items() if is_there}


def test_the_quick_size_is_that_of_plain_files_and_folders_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"elsewhere")
    run = tmp_path / "run"
    run.mkdir()
    opened = os.open(run, os.O_RDONLY)
    with handles.opened(opened):
        assert quick(opened) is None
        grow(os.fsencode(run), random.Random(7), os.fsencode(outside), [], 0, ("file", "folder", "same", "elsewhere"))
        counted = run_tree.count(run_tree.scan(opened).entries)
        assert quick(opened) == (counted.files, counted.bytes, counted.allocated)
        assert counted.files > 10
        (run / "link").symlink_to("nowhere")
        assert quick(opened) is None
        assert run_tree.size_of(opened) == counted
    closing(tmp_path)


def quick(run: int) -> tuple[int, int, int] | None:
    return tree_size.of_plain_tree(run, max_depth=run_tree.MAX_DEPTH, max_path=run_tree.MAX_PATH)


def test_of_mounts_inside(tmp_path: Path) -> None:
    for name in ("elsewhere", "run/mounted", "run/below/mounted"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / f"{name}.txt").write_text("x")

    def scans() -> tuple[Scan, Scan]:
        for place in ("run/mounted", "run/below/mounted"):
            mount("--bind", tmp_path / "elsewhere", tmp_path / place)
            mount("--bind", tmp_path / "elsewhere.txt", tmp_path / f"{place}.txt")
        mount("-t", "tmpfs", "none", tmp_path / "run/below")
        return both(tmp_path / "run")

    plain, fast = with_own_mounts(scans)
    assert fast == plain
    assert [problem.reason for problem in fast.problems] == ["mount_inside"] * 3


def test_of_a_hold_file_that_cannot_be_read(tmp_path: Path, open_directory: Open) -> None:
    (tmp_path / ".exlab-hold").write_text("mine")
    (tmp_path / ".exlab-hold").chmod(0)
    give_away(tmp_path, tmp_path / ".exlab-hold")
    run = open_directory(tmp_path)
    plain, fast = as_ordinary_user(lambda: looked_at(run))
    assert fast == plain
    assert (fast.is_held, fast.problems) == (True, ())


def test_of_a_file_that_is_a_mount(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("elsewhere")
    for name in ("run/folder/file", "run/folder/mounted"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    def scans() -> tuple[Scan, Scan]:
        mount("--bind", tmp_path / "elsewhere", tmp_path / "run/folder/mounted")
        return both(tmp_path / "run")

    plain, fast = with_own_mounts(scans)
    assert fast == plain
    assert [entry.path for entry in fast.entries] == [b"folder", b"folder/file"]


def test_of_what_is_fixed_and_of_what_is_too_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d/" * run_tree.MAX_DEPTH)
    deep.mkdir(parents=True)
    for name in ("fixed", "grows", "free", "folder/fixed"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    fixed = [tmp_path / "fixed", tmp_path / "folder/fixed", tmp_path / "folder"]
    is_fixed = subprocess.run(["chattr", "+i", *fixed], capture_output=True, check=False).returncode == 0
    subprocess.run(["chattr", "+a", tmp_path / "grows"], capture_output=True, check=False)
    try:
        plain, fast = both(tmp_path)
        assert fast == plain
        assert [problem.reason for problem in fast.unseen] == ["tree_too_deep"]
        assert not is_fixed or len(fast.problems) == 6
    finally:
        subprocess.run(["chattr", "-i", "-a", *fixed, tmp_path / "grows"], capture_output=True, check=False)


def test_one_reader_says_of_every_entry_what_a_plain_look_says(tmp_path: Path) -> None:
    grow(os.fsencode(tmp_path), random.Random(99), b"/etc/hostname", [])
    folder = os.open(tmp_path, os.O_RDONLY)
    with handles.opened(folder):
        read = linux.status_reader()
        for name in run_tree.sorted_names(folder):
            plain, found = plain_scan.status(folder, name), read(folder, name)
            assert found == linux.status(folder, name)
            assert (found.birth_ns, found.is_mount_root, found.is_fixed) == (
                plain.birth_ns,
                plain.is_mount_root,
                plain.is_fixed,
            )
            assert (found.mode, found.uid, found.device) == (plain.stat.st_mode, plain.stat.st_uid, plain.stat.st_dev)
            assert run_tree.entry_of(name, found) == plain_scan.entry_of(name, plain.stat)
        for name in (b"", b"a\0b"):
            with pytest.raises(OSError, match="not the name"):
                read(folder, name)
    closing(tmp_path)
