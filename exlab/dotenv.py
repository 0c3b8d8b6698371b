"""The file `.env` beside manage.py."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from exlab.reading import WrongSettings

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""(["'])(.*)\1\s*(#.*)?""")


def environment(path: Path) -> Mapping[str, str]:
    """The environment and the file's other settings. Raises WrongSettings."""
    for name, value in read(path).items():
        os.environ.setdefault(name, value)
    return os.environ


def read(path: Path) -> dict[str, str]:
    """The settings in the file; empty without a file. Raises WrongSettings."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise WrongSettings(f"{path}: it is no text in UTF-8; write it anew.") from None
    except OSError as error:
        said = error.strerror or "it cannot be read"
        raise WrongSettings(f"{path}: {said}; let this user read it or take it away.") from None
    if any("\0" in line for line in lines):
        raise WrongSettings(f"{path}: there is a character in it that no text holds (NUL); write it anew.")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, value = _parse(line.strip(), f"{path}, line {number}")
            if name in found:
                raise WrongSettings(f"{path}, line {number}: {name} stands there twice; take one of them away.")
            found[name] = value
    return found


def _parse(line: str, where: str) -> tuple[str, str]:
    # The text is never shown: it may be a password.
    match = _LINE.fullmatch(line)
    if match is None:
        raise WrongSettings(f"{where}: it is no setting; write NAME=VALUE or begin it with #.")
    name, value = match.groups()
    if not value.startswith(("'", '"')):
        return name, re.sub(r"(^|\s+)#.*", "", value)
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        raise WrongSettings(f"{where}: the quotation marks of {name} do not end with the value; write both or none.")
    inner = quoted[2]
    return name, re.sub(r'\\(["\\])', r"\1", inner) if quoted[1] == '"' else inner
