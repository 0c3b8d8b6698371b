"""The operating system account that typed a command; `--user` proves nothing."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from cleanup.storage import accounts

_typist: ContextVar[str] = ContextVar("typist", default="")

# Width of the column.
_MAX = 255


def current() -> str:
    """The account that types the running command; empty in pages and tasks."""
    return _typist.get()


@contextlib.contextmanager
def typing(account: str) -> Iterator[None]:
    """Within the block, rows are typed by this account."""
    token = _typist.set(account)
    try:
        yield
    finally:
        _typist.reset(token)


def account(environment: Mapping[str, str] = os.environ) -> str:
    """This process's account: `ada (uid 1000)`, or `uid 1000` without a name.

    `by sudo from bob (as SUDO_USER says)` is only the environment's claim.
    """
    uid = os.getuid()
    name = accounts.name_of(uid)
    said = f"{name} (uid {uid})" if name else f"uid {uid}"
    if before := environment.get("SUDO_USER", ""):
        said += f", by sudo from {before[:100]} (as SUDO_USER says)"
    return said.encode("utf-8", "backslashreplace").decode()[:_MAX]


def name() -> str:
    """The name of this process's account, else `uid 1000`."""
    return accounts.name_of(os.getuid()) or f"uid {os.getuid()}"
