"""What a registration lays or finds at the tops of roots."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Self

from cleanup.lab.nas.nas_roots import nas_roots
from cleanup.lab.roots import root_checks
from cleanup.lab.roots.root_checks import RegistrationError
from cleanup.models import StagingRoot
from cleanup.storage import errors, handles, run_paths
from cleanup.storage.root_files import markers, reserve, tokens
from cleanup.storage.staging import fences


class Laid:
    """Files just laid, so that a refused registration leaves nothing."""

    def __init__(self) -> None:
        self._found: list[tuple[str, bytes]] = []

    @classmethod
    @contextmanager
    def unless_refused(cls) -> Iterator[Self]:
        """Remove what was laid if the block raises."""
        laid = cls()
        with ExitStack() as refused:
            refused.callback(laid._take_back)
            yield laid
            refused.pop_all()

    def note(self, path: str, name: bytes) -> None:
        self._found.append((path, name))

    def _take_back(self) -> None:
        for path, name in reversed(self._found):
            with suppress(OSError), handles.opened(handles.open_root(path)) as root:
                markers.take_back(root, name)


def carried(path: str) -> str:
    """The token at the top of a directory, or an empty text.

    Raises RegistrationError, also if the directory is empty.
    """
    try:
        with handles.opened(handles.open_root(path)) as root:
            found = tokens.read_token(root)
            if found is None and not handles.holds_anything(root):
                raise RegistrationError(f"{path} is empty: is its disk mounted?")
    except ValueError:
        raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
    except OSError as error:
        raise RegistrationError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return found or ""


def carried_by_nas(path: str) -> str:
    """The token of a NAS root, which must carry one. Raises RegistrationError."""
    token = carried(path)
    if not token:
        raise RegistrationError(f"{path} carries no token: is the NAS mounted? {_by_hand(path)}")
    return token


def _by_hand(path: str) -> str:
    return f"Write a UUID into {path}/{tokens.TOKEN.decode()} yourself, then try again."


def _lay_staging_marker(root: int, path: str, token: str, laid: Laid) -> None:
    marker = markers.staging_marker(token)
    if reserve.with_reserve(root, lambda: markers.lay_marker(root, marker)):
        laid.note(path, marker)
    if not markers.is_seen(root, marker):
        raise RegistrationError(f"{path} does not show what is written there: {run_paths.show(marker)} is not seen.")


def mark_nas_roots(root: StagingRoot, laid: Laid) -> None:
    """Lay the marker of each NAS root that is mounted and writable.

    A NAS that shows a staging disk gets none (see `two_places.remarks`).
    """
    for nas in nas_roots(root):
        seen = (OSError, errors.WrongToken, RegistrationError)
        with suppress(*seen), handles.opened(handles.open_root(nas.path)) as directory:
            tokens.check_token(directory, nas.token)
            root_checks.refuse_staging_marker(directory, nas.path)
            marker = markers.nas_marker(nas.token)
            if markers.lay_marker(directory, marker):
                laid.note(nas.path, marker)


def laid_token(path: str, known: str, laid: Laid, *, accept_empty: bool, staging: bool) -> str:
    """The token at the top of a root, laid if missing. Raises RegistrationError.

    Empty for an empty directory, unless `accept_empty`.
    """
    with ExitStack() as stack:
        try:
            root = stack.enter_context(handles.opened(handles.open_root(path)))
            found = tokens.read_token(root)
            if known and found != known:
                carries = f"carries the token {found}" if found else "carries no token"
                raise RegistrationError(f"{path} {carries}, but {known} was registered. Is the right disk mounted?")
            if found is None and not accept_empty and not handles.holds_anything(root):
                return ""
            if found is None and not staging:
                root_checks.refuse_staging_marker(root, path)  # before anything is written there
            token = tokens.lay_token(root)
            if found is None:
                laid.note(path, tokens.TOKEN)
            if staging:
                fences.probe(root)
                if reserve.lay_reserve(root):
                    laid.note(path, reserve.RESERVE)
                _lay_staging_marker(root, path, token, laid)
        except ValueError:
            raise RegistrationError(f"The token file at the top of {path} holds no UUID.") from None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS):
                raise RegistrationError(f"The filesystem of {path} lacks the rename that a safe clear needs.") from None
            by_hand = "" if staging else f" {_by_hand(path)}"
            problem = os.strerror(error.errno or 0)
            raise RegistrationError(f"{path} cannot be prepared: {problem}.{by_hand}") from None
    return token
