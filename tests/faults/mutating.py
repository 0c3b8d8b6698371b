"""Finds the system calls of a trace that would change something below some directories, failed ones too.

A dry run promises none, so this covers all calls that change files, directories or kernel state about them,
and each open for more than reading. strace prints the paths of descriptors, which resolve the names.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.faults.blackbox import CHECKOUT

NAMES = (
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat", "creat"),
)
CONTENTS = (
    *("write", "writev", "pwrite64", "pwritev", "pwritev2", "truncate", "ftruncate", "fallocate"),
    *("sendfile", "copy_file_range", "splice"),
)
ABOUT = (
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchown", "fchownat"),
    *("utime", "utimes", "futimesat", "utimensat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("mount", "umount2", "move_mount", "mount_setattr"),
)
OPENS = ("open", "openat", "openat2", "open_by_handle_at")
# By these a process could change files without any of the calls above.
UNSEEN = ("io_uring_setup",)
CONTROLS = ("ioctl",)

_CALL = re.compile(r"(?:\d+ +)?(?P<name>\w+)\((?P<rest>.*)")
_STRING = r'"((?:[^"\\]|\\.)*)"'
_AT = re.compile(rf"(?:AT_FDCWD|\b\d+)<((?:[^>\\]|\\.)*)>(?:, {_STRING})?")
_TO_WRITE = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)\b")
_CONTROL_THAT_CHANGES = re.compile(r"\b(FS_IOC_SETFLAGS|FS_IOC_FSSETXATTR|FICLONE\w*|FIDEDUPERANGE)\b")


@dataclass(frozen=True)
class Watch:
    def options(self) -> list[str]:
        names = ",".join(f"?{name}" for name in (*NAMES, *CONTENTS, *ABOUT, *OPENS, *UNSEEN, *CONTROLS))
        return ["-f", "-y", "-e", f"trace={names}", "-e", "signal=none"]


def mutating(trace: str, below: Collection[Path]) -> list[str]:
    """The trace lines that would change something at or below these directories, or that hide their target."""
    return [line for line in trace.splitlines() if _is_mutating(line, below)]


def opened(trace: str, below: Path) -> list[str]:
    calls = ((line, _CALL.match(line)) for line in trace.splitlines())
    return [line for line, call in calls if call and call["name"] in OPENS and _touches(call, [below])]


def _is_mutating(line: str, below: Collection[Path]) -> bool:
    call = _CALL.match(line)
    if call is None:
        return False
    name = call["name"]
    if name in UNSEEN:
        return True
    arguments = re.sub(rf"{_STRING}|<[^>]*>", "", call["rest"])  # without names, which may look like flags
    if name in OPENS and not _TO_WRITE.search(arguments):
        return False
    if name in CONTROLS and not _CONTROL_THAT_CHANGES.search(arguments):
        return False
    return _touches(call, below)


def _touches(call: re.Match[str], below: Collection[Path]) -> bool:
    return any(os.path.commonpath([path, directory]) == str(directory) for path in _paths(call) for directory in below)


def _paths(call: re.Match[str]) -> list[str]:
    name, rest = call["name"], call["rest"]
    if name in CONTENTS and name != "truncate":  # written data is no path, even if it looks like one
        rest = re.sub(_STRING, "", rest)
    found = [os.path.join(directory, below) for directory, below in _AT.findall(rest) if directory[:1] == "/"]
    found += [os.path.join(CHECKOUT, _unquoted(text)) for text in re.findall(_STRING, _AT.sub("", rest))]
    return [os.path.normpath(_unquoted(path)) for path in found]


def _unquoted(text: str) -> str:
    return text.replace('\\"', '"').replace("\\\\", "\\")
