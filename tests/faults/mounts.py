"""Real mounts of every kind: loops, subvolumes, unions, and FUSE programs over a directory of this host."""

import contextlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.means import Unavailable, mounted, need_root

Enter = Callable[[contextlib.AbstractContextManager[Any]], None]

SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
# Debian's package of a program, where it is called otherwise.
_PACKAGES = {"mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs", "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}
_PACKAGES |= {"unionfs": "unionfs-fuse"}
_PATIENCE_SECONDS = 20.0


def need(program: str) -> str:
    """Return the path of a program. Raises Unavailable without it."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise Unavailable(f"{program} is not installed (Debian: {_PACKAGES.get(program, program)})")
    return found


def call(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} does not work here: {(done.stderr or done.stdout).strip()}")


@contextlib.contextmanager
def disk(image: Path, place: Path, kind: str = "ext4", size: str = "16M", options: str = "loop") -> Iterator[None]:
    """Mount a filesystem in an image; make the image unless it exists."""
    need_root("may mount")
    place.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        call("truncate", "-s", size, image)
        call(need(f"mkfs.{kind}"), "-q", image)
    with mounted("-o", options, image, place):
        yield


@contextlib.contextmanager
def looped(image: Path, place: Path) -> Iterator[None]:
    """Mount an image read-only by a second loop device; mount(8) would reuse the first one."""
    need_root("may make loops")
    done = subprocess.run(
        [need("losetup"), "--find", "--show", "--read-only", image], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"no loop can be made here: {done.stderr.strip()}")
    loop = done.stdout.strip()
    try:
        with mounted("-o", "ro,noload", loop, place):
            yield
    finally:
        call(need("losetup"), "--detach", loop)


@contextlib.contextmanager
def btrfs(image: Path, place: Path) -> Iterator[None]:
    with disk(image, place, "btrfs", "128M"):
        for name in ("staging", "nas"):
            call(need("btrfs"), "subvolume", "create", place / name)
        yield


def subvolume(place: Path) -> None:
    call(need("btrfs"), "subvolume", "create", place)


@contextlib.contextmanager
def overlay(place: Path, *lower: Path, upper: Path | None = None, work: Path | None = None) -> Iterator[None]:
    options = f"lowerdir={':'.join(str(path) for path in lower)}"
    if upper is not None:
        options += f",upperdir={upper},workdir={work}"
    with mounted("-t", "overlay", "overlay", "-o", options, place):
        yield


@contextlib.contextmanager
def served(place: Path, *command: str | Path) -> Iterator[None]:
    need_root("may mount for everybody")
    words = [need(str(command[0])), *map(str, command[1:])]
    before = place.stat().st_dev
    # Its messages would fill an unread pipe and block it.
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(place, before, process)
            yield
        finally:
            _unmount(place)
            if process.poll() is None:
                process.terminate()


def _wait_for(place: Path, before: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while place.stat().st_dev == before:
        if process.poll() or time.monotonic() > until:
            process.kill()
            raise Unavailable(f"{process.args[0]} mounts nothing here")  # type: ignore[index]
        time.sleep(0.02)


def _unmount(place: Path) -> None:
    if os.path.ismount(place) and subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mergerfs(place: Path, *branches: Path, options: str = "cache.files=off") -> contextlib.AbstractContextManager[None]:
    return served(
        place, "mergerfs", "-f", "-o", f"allow_other,minfreespace=0,{options}", ":".join(map(str, branches)), place
    )


def rclone(place: Path, remote: str | Path, cache: Path, *options: str) -> contextlib.AbstractContextManager[None]:
    own = ("--config", "/dev/null", "--cache-dir", cache, "--allow-other")
    return served(place, "rclone", "mount", remote, place, *own, *options)


@contextlib.contextmanager
def sshfs(place: Path, far: Path) -> Iterator[None]:
    """sshfs on an sftp-server of this host, without sshd."""
    if not SFTP_SERVER.exists():
        raise Unavailable("no sftp-server is installed (Debian: openssh-sftp-server)")
    need("sshfs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve_sftp, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        with served(place, "sshfs", "-f", "-o", f"directport={port},allow_other", f"127.0.0.1:{far}", place):
            yield


@contextlib.contextmanager
def slow_sshfs(place: Path, far: Path, is_slow: Callable[[bytes], bool]) -> Iterator[threading.Event]:
    """As `sshfs`, but reads of the files with slow paths wait for the event, as on tape.

    All other requests are answered at once. A process that reads such a file hangs in the kernel, even when
    it is killed: no page is cached, and a signal does not wake the wait.
    """
    if not SFTP_SERVER.exists():
        raise Unavailable("no sftp-server is installed (Debian: openssh-sftp-server)")
    need("sshfs")
    recalled = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve_slowly, args=(server, is_slow, recalled), daemon=True).start()
        port = server.getsockname()[1]
        options = f"directport={port},allow_other,direct_io"
        with served(place, "sshfs", "-f", "-o", options, f"127.0.0.1:{far}", place):
            try:
                yield recalled
            finally:
                recalled.set()  # or the mount could not end


def _serve_slowly(server: socket.socket, is_slow: Callable[[bytes], bool], recalled: threading.Event) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or answers wait 40 ms for one another
        with connection, subprocess.Popen([SFTP_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as far:
            assert far.stdin is not None and far.stdout is not None
            opening: dict[bytes, bytes] = {}
            slow: set[bytes] = set()
            sending = threading.Lock()

            def send(packet: bytes) -> None:
                with sending:
                    far.stdin.write(packet)  # type: ignore[union-attr]
                    far.stdin.flush()  # type: ignore[union-attr]

            def send_later(packet: bytes) -> None:
                recalled.wait()
                send(packet)

            def answer() -> None:
                for packet in _packets(far.stdout.read):  # type: ignore[union-attr]
                    path = opening.pop(packet[5:9], None)
                    if packet[4] == _HANDLE and path is not None and is_slow(path):
                        slow.add(_text_at(packet, 9))
                    connection.sendall(packet)

            threading.Thread(target=answer, daemon=True).start()
            for packet in _packets(lambda size: connection.recv(size, socket.MSG_WAITALL)):
                if packet[4] == _OPEN:
                    opening[packet[5:9]] = _text_at(packet, 9)
                if packet[4] == _READ and _text_at(packet, 9) in slow and not recalled.is_set():
                    threading.Thread(target=send_later, args=(packet,), daemon=True).start()
                else:
                    send(packet)


@contextlib.contextmanager
def far_sshfs(place: Path, far: Path, program: Path, *, ahead_seconds: int, host: str = "192.0.2.7") -> Iterator[None]:
    """sshfs on a server with another host's address and its own clock; `program` is written for that."""
    if not SFTP_SERVER.exists():
        raise Unavailable("no sftp-server is installed (Debian: openssh-sftp-server)")
    program.write_text(_CLOCK_OF_ITS_OWN.format(python=sys.executable, server=SFTP_SERVER, ahead=ahead_seconds))
    program.chmod(0o755)
    with served(place, "sshfs", "-f", "-o", f"ssh_command={program},allow_other", f"lab@{host}:{far}", place):
        yield


# An sftp-server with another clock: it shifts the two times of each answer with attributes.
_CLOCK_OF_ITS_OWN = """#!{python}
import os, struct, subprocess, sys, threading
far = subprocess.Popen(["{server}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def ask():
    while data := os.read(0, 65536):
        far.stdin.write(data); far.stdin.flush()
    far.stdin.close()
threading.Thread(target=ask, daemon=True).start()
while len(length := far.stdout.read(4)) == 4:
    packet = bytearray(far.stdout.read(int.from_bytes(length, "big")))
    if packet[0] == 105:
        flags, at = struct.unpack_from(">I", packet, 5)[0], 9
        at += 8 * bool(flags & 1) + 8 * bool(flags & 2) + 4 * bool(flags & 4)
        if flags & 8:
            struct.pack_into(">II", packet, at, *(time + {ahead} for time in struct.unpack_from(">II", packet, at)))
    os.write(1, length + packet)
"""


@dataclass
class SftpTraffic:
    """What a client asked a far server: the number of requests of each kind, and of those under way at once."""

    requests: Counter[int] = field(default_factory=Counter)
    under_way: set[bytes] = field(default_factory=set)
    most_at_once: int = 0

    @property
    def waited_for(self) -> int:
        """How often the client waited for an answer.

        sshfs asks for the status of a file with its opening, and waits for both together; it does not wait for the end
        of a file that was read.
        """
        return self.requests.total() - self.requests[_OPEN] - self.requests[_CLOSE]


@contextlib.contextmanager
def far_away_sshfs(place: Path, far: Path, *, seconds: float) -> Iterator[SftpTraffic]:
    """As `sshfs`, but each answer comes `seconds` later, as over a long way; many may be under way at once."""
    if not SFTP_SERVER.exists():
        raise Unavailable("no sftp-server is installed (Debian: openssh-sftp-server)")
    need("sshfs")
    traffic = SftpTraffic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve_from_afar, args=(server, seconds, traffic), daemon=True).start()
        port = server.getsockname()[1]
        with served(place, "sshfs", "-f", "-o", f"directport={port},allow_other", f"127.0.0.1:{far}", place):
            yield traffic


def _serve_from_afar(server: socket.socket, seconds: float, traffic: SftpTraffic) -> None:
    with contextlib.suppress(OSError):
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or answers wait 40 ms for one another
        with connection, subprocess.Popen([SFTP_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as far:
            assert far.stdin is not None and far.stdout is not None
            answers: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

            def take() -> None:
                for packet in _packets(far.stdout.read):  # type: ignore[union-attr]
                    answers.put((time.monotonic() + seconds, packet))

            def give() -> None:
                while True:
                    due, packet = answers.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    traffic.under_way.discard(packet[5:9])
                    connection.sendall(packet)

            for each in (take, give):
                threading.Thread(target=each, daemon=True).start()
            for packet in _packets(lambda size: connection.recv(size, socket.MSG_WAITALL)):
                traffic.requests[packet[4]] += 1
                traffic.under_way.add(packet[5:9])
                traffic.most_at_once = max(traffic.most_at_once, len(traffic.under_way))
                far.stdin.write(packet)
                far.stdin.flush()


# Kinds of packets of SFTP: a length of four bytes, the kind, the number of the request, and what it needs.
_OPEN, _CLOSE, _READ, _HANDLE = 3, 4, 5, 102


def _packets(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while len(length := read(4)) == 4:
        yield length + read(int.from_bytes(length))


def _text_at(packet: bytes, at: int) -> bytes:
    return packet[at + 4 : at + 4 + int.from_bytes(packet[at : at + 4])]


def _serve_sftp(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            subprocess.Popen([SFTP_SERVER], stdin=connection, stdout=connection)
            connection.close()
