"""A seam under every operation by which the product changes anything, in this process.

While a `Seam` stands, each disk-changing call of a `cleanup` module and each database commit or autocommitted
write is an `Operation` with a number and a name. `act` decides what happens: it lets the operation happen,
fail, lose its answer or happen by half, does something else in between, or kills the worker. `Killed` is no
Exception, so no handler takes it, and every later operation raises it again: nothing changes on the way out.
Locks and transactions end as with a killed process.

With `power` the seam keeps a journal of what no fsync has made durable, and `lose_power` undoes that on disk.
A worker after a killed one goes on with its journal: the end of a process makes nothing durable.
"""

import builtins
import contextlib
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from django.db import OperationalError, connection

from cleanup.ledger import book
from cleanup.storage import linux
from tests.tools.checkout import CHECKOUT

Act = Callable[["Operation", Callable[[], Any]], Any]

_PRODUCT = f"{CHECKOUT / 'cleanup'}{os.sep}"
_DEPTH = 40
_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE)\b[^\"]*\"(\w+)\"", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{32}|(?<=\.json\.)[0-9a-f]{16}(?=\.tmp)")
_RUN = re.compile(r"(Test)?Run_\d[^ ]*")


class Killed(BaseException):
    """The worker is dead. Not an Exception, so that no product handler takes it."""


@dataclass(frozen=True)
class Operation:
    """One change that the product is about to make. `half` makes half of it, where that is possible."""

    number: int
    kind: str
    name: str
    function: str
    is_database: bool
    in_transaction: bool
    half: Callable[[], object] | None = None

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.name} in {self.function}"

    def is_like(self, other: "Operation") -> bool:
        return (self.kind, self.name, self.function) == (other.kind, other.name, other.function)


def let(operation: Operation, do: Callable[[], Any]) -> Any:
    return do()


@dataclass
class Seam:
    act: Act = let
    power: bool = False
    operations: list[Operation] = field(default_factory=list)
    dead: bool = False
    _aside: bool = False
    _one_at_a_time: Any = field(default_factory=threading.RLock)
    _journal: "_Journal" = field(default_factory=lambda: _Journal())

    def __enter__(self) -> "Seam":
        self._stack = contextlib.ExitStack()
        for owner, name, replacement in _replacements(self):
            self._stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, replacement)
        self._stack.enter_context(_database(self))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
        if not self.power:
            self._journal.close()

    def operation(
        self,
        kind: str,
        name: str,
        do: Callable[[], Any],
        *,
        is_database: bool = False,
        half: Callable[[], object] | None = None,
        durable: Callable[["_Journal"], None] | None = None,
    ) -> Any:
        """Number and name an operation and let `act` decide; calls from outside the product pass unseen."""
        function = _function()
        if not function:
            return do()
        with self._one_at_a_time:
            if self._aside:
                return do()
            if self.dead:
                raise Killed
            in_transaction = connection.in_atomic_block or kind == "commit"
            number = len(self.operations) + 1
            operation = Operation(number, kind, _plain(name), function, is_database, in_transaction, half)
            self.operations.append(operation)
            self._aside = True  # anything else that `act` does is not the worker's
            try:
                result = self.act(operation, do)
                if self.power and durable is not None:
                    durable(self._journal)
            except Killed:
                self.dead = True
                _lose_transaction()
                raise
            finally:
                self._aside = False
            return result

    def go_on_from(self, earlier: "Seam") -> None:
        self._journal = earlier._journal

    def lose_power(self, lost: "Lost") -> None:
        """Undo on disk what no fsync has made durable; call it when the worker is gone."""
        self._journal.lose(lost)
        self._journal.close()


def _lose_transaction() -> None:
    """Roll back the open transaction, as the end of a process does.

    The connection is kept: a new one costs a quarter of a clear.
    """
    if connection.connection is not None:
        connection.connection.rollback()  # by the driver: Django's own would be one more operation of the dead worker
    connection.run_on_commit = []


def _function() -> str:
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_DEPTH):
        if frame is None:
            return ""
        file = frame.f_code.co_filename
        # The ledger's transaction is told by the function that began it.
        if file.startswith(_PRODUCT) and file != book.__file__ and not frame.f_code.co_name.startswith("<"):
            return frame.f_code.co_name
        frame = frame.f_back
    return ""


def _plain(name: str) -> str:
    """Replace ids, so that a thing has the same name in every run and attempt."""
    return "number" if name.isdigit() else _RUN.sub("run", _HEX.sub("", name))


# What the product calls


def _replacements(seam: Seam) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    disk = _Disk(seam)
    for name in _Disk.CALLS:
        yield os, name, getattr(disk, name)
    yield linux, "rename_noreplace", disk.rename_noreplace
    yield builtins, "open", disk.open_file


class _Disk:
    CALLS = (
        "open",
        "write",
        "fsync",
        "rename",
        "unlink",
        "rmdir",
        "mkdir",
        "link",
        "fchmod",
        "fchown",
        "posix_fallocate",
        "ftruncate",
        "utime",
    )

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._real = {name: getattr(os, name) for name in self.CALLS}
        self._rename_noreplace = linux.rename_noreplace
        self._open_file = builtins.open

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def real() -> int:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)

        makes = bool(flags & os.O_CREAT) and not _exists(path, dir_fd)
        if not makes and not flags & os.O_TRUNC:
            return real()
        made: list[int] = []

        def do() -> int:
            made.append(real())
            return made[0]

        def durable(journal: "_Journal") -> None:
            journal.wrote(made[0])
            if makes:
                journal.made(path, dir_fd, "file")

        return self._seam.operation("create" if makes else "truncate", _base(path), do, durable=durable)

    def open_file(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """File objects write without `os.write`; this one's writes are seen."""
        if mode != "wb" or not _function():
            return self._open_file(file, mode, *args, **kwargs)
        return io.BufferedWriter(_SeenFile(self._seam, file, opener=kwargs.get("opener")))

    def write(self, descriptor: int, data: Any) -> int:
        def half() -> None:
            self._real["write"](descriptor, bytes(data)[: len(data) // 2])

        def do() -> int:
            return self._real["write"](descriptor, data)

        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return self._seam.operation("ask", "pipe", do)  # changes nothing, but the answer may take long
        return self._seam.operation(
            "write", _name_of(descriptor), do, half=half, durable=lambda journal: journal.wrote(descriptor)
        )

    def fsync(self, descriptor: int) -> None:
        # No real fsync: the journal knows what would be lost, and a real one is slow.
        self._seam.operation(
            "fsync", _name_of(descriptor), lambda: None, durable=lambda journal: journal.synced(descriptor)
        )

    def rename(self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        def do() -> None:
            if self._seam.power:
                replaced.extend(_Replaced.at(target, dst_dir_fd))
            self._real["rename"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        replaced: list[_Replaced] = []
        self._seam.operation(
            "rename",
            f"{_base(source)} to {_base(target)}",
            do,
            durable=lambda journal: journal.renamed(source, src_dir_fd, target, dst_dir_fd, replaced),
        )

    def rename_noreplace(self, source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
        self._seam.operation(
            "rename",
            f"{_base(source)} to {_base(target)}",
            lambda: self._rename_noreplace(source_directory, source, target_directory, target),
            durable=lambda journal: journal.renamed(source, source_directory, target, target_directory, []),
        )

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        if not _exists(path, dir_fd):
            self._real["unlink"](path, dir_fd=dir_fd)  # which changes nothing and says so
        self._seam.operation(
            "unlink",
            _base(path),
            lambda: self._real["unlink"](path, dir_fd=dir_fd),
            durable=lambda journal: journal.unlinked(path, dir_fd),
        )

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._seam.operation("rmdir", _base(path), lambda: self._real["rmdir"](path, dir_fd=dir_fd))

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        def do() -> None:
            self._real["mkdir"](path, mode, dir_fd=dir_fd)

        if _exists(path, dir_fd):
            do()
        self._seam.operation("mkdir", _base(path), do, durable=lambda journal: journal.made(path, dir_fd, "directory"))

    def utime(self, path: Any, times: Any = None, **how: Any) -> None:
        name = _name_of(path) if isinstance(path, int) else _base(path)
        self._seam.operation("utime", name, lambda: self._real["utime"](path, times, **how))

    def link(
        self,
        source: Any,
        target: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        self._seam.operation(
            "link",
            f"{_base(source)} to {_base(target)}",
            lambda: self._real["link"](
                source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks
            ),
            durable=lambda journal: journal.made(target, dst_dir_fd, "file"),
        )

    def fchmod(self, descriptor: int, mode: int) -> None:
        self._seam.operation("fchmod", _name_of(descriptor), lambda: self._real["fchmod"](descriptor, mode))

    def fchown(self, descriptor: int, uid: int, gid: int) -> None:
        self._seam.operation("fchown", _name_of(descriptor), lambda: self._real["fchown"](descriptor, uid, gid))

    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        self._seam.operation(
            "fallocate",
            _name_of(descriptor),
            lambda: self._real["posix_fallocate"](descriptor, offset, size),
            durable=lambda journal: journal.wrote(descriptor),
        )

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._seam.operation(
            "truncate",
            _name_of(descriptor),
            lambda: self._real["ftruncate"](descriptor, size),
            durable=lambda journal: journal.wrote(descriptor),
        )


class _SeenFile(io.FileIO):
    """A file opened for writing by the product: each write that reaches the kernel is an operation."""

    def __init__(self, seam: Seam, file: Any, *, opener: Any) -> None:
        super().__init__(file, "wb", opener=opener)
        self._seam = seam

    def write(self, data: Any) -> int:
        def half() -> None:
            io.FileIO.write(self, bytes(data)[: len(data) // 2])

        written: int = self._seam.operation(
            "write",
            _name_of(self.fileno()),
            lambda: io.FileIO.write(self, data),
            half=half,
            durable=lambda journal: journal.wrote(self.fileno()),
        )
        return written


def _exists(path: Any, directory: int | None) -> bool:
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _base(path: Any) -> str:
    return os.fsdecode(os.path.basename(os.fspath(path)))


def _name_of(descriptor: int) -> str:
    return _base(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)"))


# The database


@contextlib.contextmanager
def _database(seam: Seam) -> Iterator[None]:
    """Each commit and each write outside a transaction is an operation; a dead worker gets no answer."""
    commit = connection.commit

    def seen_commit() -> None:
        seam.operation("commit", "", commit, is_database=True)

    def seen_statement(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        def do() -> Any:
            return execute(sql, params, many, context)

        if seam.dead:
            raise Killed
        if getattr(seam.act, "database_is_gone", False):
            raise OperationalError("the database is gone")
        writes = _WRITES.match(str(sql))
        if connection.in_atomic_block or not writes:
            return do()
        return seam.operation(writes[1].lower(), writes[2], do, is_database=True)

    with connection.execute_wrapper(seen_statement):
        connection.commit = seen_commit
        try:
            yield
        finally:
            del connection.commit


# What a power failure takes


@dataclass(frozen=True)
class Lost:
    """Which changes without an fsync a power failure takes. The disk may keep any of them."""

    names: bool = True
    data: bool = True


@dataclass
class _Replaced:
    data: bytes
    mode: int
    times: tuple[int, int]

    @classmethod
    def at(cls, path: Any, directory: int | None) -> "list[_Replaced]":
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            return [cls(file.read(), status.st_mode & 0o7777, (status.st_atime_ns, status.st_mtime_ns))]


@dataclass
class _Change:
    """A change that is durable once each directory in `waits_for` (inodes) has been synced."""

    waits_for: set[tuple[int, int]]
    undo: Callable[[], None]


class _Journal:
    """One worker's changes, and which of them no fsync has made durable.

    Directories are held open because the run's own are renamed. They are opened anew, never duplicated: a
    duplicate would keep the product's flock.
    """

    def __init__(self) -> None:
        self._changes: list[_Change] = []
        self._dirty: dict[tuple[int, int], int] = {}  # one descriptor for each file whose bytes are not durable
        self._descriptors: list[int] = []

    def made(self, path: Any, directory: int | None, what: str) -> None:
        parent, name = self._parent(path, directory)
        undo = _forget_directory if what == "directory" else _forget_file
        self._changes.append(_Change({_identity(parent)}, lambda: undo(parent, name)))

    def renamed(
        self,
        source: Any,
        source_directory: int | None,
        target: Any,
        target_directory: int | None,
        replaced: list[_Replaced],
    ) -> None:
        before, old = self._parent(source, source_directory)
        after, new = self._parent(target, target_directory)

        def undo() -> None:
            if not _exists(new, after):
                return  # what was renamed has been unlinked since, and need not come back
            os.rename(new, old, src_dir_fd=after, dst_dir_fd=before)
            for file in replaced:
                _write_again(after, new, file)

        self._changes.append(_Change({_identity(before), _identity(after)}, undo))

    def unlinked(self, path: Any, directory: int | None) -> None:
        """A challenge comes back unless its folder was synced; other unlinked files need not."""
        if not _base(path).startswith(".exlab-challenge-"):
            return
        parent, name = self._parent(path, directory)

        def undo() -> None:
            with contextlib.suppress(FileNotFoundError):  # its folder is gone too
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent))

        self._changes.append(_Change({_identity(parent)}, undo))

    def wrote(self, descriptor: int) -> None:
        identity = _identity(descriptor)
        if identity not in self._dirty:
            # One file may be written by two descriptors; this one survives both.
            self._dirty[identity] = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_CLOEXEC)
            self._descriptors.append(self._dirty[identity])

    def synced(self, descriptor: int) -> None:
        identity = _identity(descriptor)
        self._dirty.pop(identity, None)
        for change in self._changes:
            change.waits_for.discard(identity)

    def lose(self, lost: Lost) -> None:
        if lost.data:
            for descriptor in self._dirty.values():
                os.ftruncate(descriptor, 0)
        if lost.names:
            for change in reversed(self._changes):
                if change.waits_for:
                    change.undo()

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _parent(self, path: Any, directory: int | None) -> tuple[int, bytes]:
        above, name = os.path.split(os.fsencode(path))
        parent = os.open(above or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        self._descriptors.append(parent)
        return parent, name


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _forget_file(parent: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _forget_directory(parent: int, name: bytes) -> None:
    """Remove the directory with its content, which cannot be found any more."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    try:
        for entry in os.listdir(descriptor):
            os.unlink(entry, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)


def _write_again(parent: int, name: bytes, file: _Replaced) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode, dir_fd=parent)
    with os.fdopen(descriptor, "wb") as copy:
        copy.write(file.data)
        copy.flush()
        os.utime(descriptor, ns=file.times)
