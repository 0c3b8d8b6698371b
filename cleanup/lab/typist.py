"""Who typed a command: the account of the operating system, kept beside the name that `--user` gives.

A user of the pages may be named by `--user`; that proves nothing. What the kernel says of the process does.
"""

import contextlib
import os
import pwd
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

_typist: ContextVar[str] = ContextVar("typist", default="")

# So much room has the column.
_MAX = 255


def current() -> str:
    """The account that types the running command; empty in a page, a task and the schedule."""
    return _typist.get()


@contextlib.contextmanager
def typing(account: str) -> Iterator[None]:
    """While this lasts, what is written down is typed by this account."""
    token = _typist.set(account)
    try:
        yield
    finally:
        _typist.reset(token)


def account(environment: Mapping[str, str] = os.environ) -> str:
    """The account of this process: `ada (uid 1000)`, or `uid 1000` without a name.

    The number is the kernel's; `by sudo from bob (as SUDO_USER says)` is the environment's claim.
    """
    uid = os.getuid()
    name = _name_of(uid)
    said = f"{name} (uid {uid})" if name else f"uid {uid}"
    if before := environment.get("SUDO_USER", ""):
        said += f", by sudo from {before[:100]} (as SUDO_USER says)"
    return said.encode("utf-8", "backslashreplace").decode()[:_MAX]


def name() -> str:
    """The name of this process's account; `uid 1000` where the machine knows none."""
    return _name_of(os.getuid()) or f"uid {os.getuid()}"


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container that runs by a number
        return ""
