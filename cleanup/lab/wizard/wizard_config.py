"""What ExLab-Wizard's `config.yaml` says of staging, copies and cleaners.

Older files have a transport for each instrument, newer ones `nas` for all.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cleanup.lab.wizard.wizard_yaml import WizardConfigError, values_in
from cleanup.rules.policies.policy import MAX_RETAIN_HOURS, Mode
from cleanup.storage.run_paths import is_folder_name

# A real one has a few kilobytes.
MAX_BYTES = 1 << 20

# The wizard's default.
WIZARD_RETAIN_HOURS = 24.0


@dataclass(frozen=True)
class Remote:
    """A folder as the wizard's transport names it, not where this host mounts it."""

    name: str  # empty: this host
    path: str
    by_ssh: bool = False  # `name` is another host's address, `user@host`

    def __str__(self) -> str:
        return f"{self.name}:{self.path}" if self.name else self.path

    @property
    def perhaps_here(self) -> bool:
        return self.path.startswith("/") and not self.by_ssh

    @property
    def surely_here(self) -> bool:
        return self.perhaps_here and self.name in ("", ":local")


@dataclass(frozen=True, kw_only=True)
class WizardInstrument:
    """One instrument in the configuration."""

    equipment: str
    copies: Remote | None = None  # holds its leaves as `<copies>/<leaf>`; None: unknown
    shown_as: str = ""  # the NAS path that the wizard shows, not a place to look into
    pushes: str = ""  # where its runs go if another host stages them


@dataclass(frozen=True, kw_only=True)
class WizardCleanup:
    """When the wizard clears staging itself."""

    mode: Mode
    retain_hours: float


@dataclass(frozen=True, kw_only=True)
class WizardConfig:
    """The parts of a configuration that matter here."""

    label: str = ""
    staging_root: str = ""
    staging: Remote | None = None  # staging on a remote, in newer files
    staging_cleanup: WizardCleanup | None = None  # None: unset
    instruments: tuple[WizardInstrument, ...] = ()
    nas: Remote | None = None  # copies lie at `<nas>/<equipment>/<leaf>`
    nas_cleanup: bool | None = None  # the cleaner after the copy; None: unset, then it is on
    ignore_globs: tuple[str, ...] = ()
    copies_at_all: bool = True
    warnings: tuple[str, ...] = ()  # sentences


def default_path(environ: Mapping[str, str]) -> str:
    """The wizard's configuration file for the user of this process."""
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(folder, "exlab-wizard", "config.yaml")


def read_config(path: str) -> WizardConfig:
    """The configuration in a file. Raises WizardConfigError, with the path."""
    try:
        return parse_config(_text_of(path))
    except WizardConfigError as error:
        raise WizardConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise WizardConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None


def parse_config(text: str) -> WizardConfig:
    """The configuration in a text. Raises WizardConfigError."""
    found = values_in(text)
    if found is None:
        raise WizardConfigError("The file is empty.")
    if not isinstance(found, dict):
        raise WizardConfigError("The file holds no mapping of keys to values.")
    warnings = [f"{key} is not known here, and is passed over." for key in _check(found, _KNOWN, "")]
    return _config(found, warnings)


# The file


def _text_of(path: str) -> str:
    # O_NONBLOCK: a pipe in its place would never open.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, "rb", closefd=True) as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise WizardConfigError("This is no regular file.")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise WizardConfigError("The file is larger than 1 MiB, so it is no configuration.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise WizardConfigError(f"The file is no UTF-8 text (byte {error.start}).") from None


# Which keys there are, and what each holds


class _Kind(Enum):
    TEXT = "a text"
    TEXTS = "a list of texts"
    NUMBER = "a number"
    FLAG = "true or false"
    ANYTHING = "anything"


_TEXT, _TEXTS, _NUMBER, _FLAG = _Kind.TEXT, _Kind.TEXTS, _Kind.NUMBER, _Kind.FLAG
_BANDWIDTH = {"upload_mbps": _NUMBER, "schedule": _Kind.ANYTHING}
# A list with one mapping in it stands for any number of such mappings.
_KNOWN: dict[str, Any] = {
    "paths": {"templates_dir": _TEXT, "plugin_dir": _TEXT, "local_root": _TEXT},
    "lims": {"endpoint": _TEXT, "email": _TEXT, "cache_ttl_hours": _NUMBER, "offline_catalogue_path": _TEXT},
    "readme": {"defaults": _Kind.ANYTHING},
    "equipment": [
        {
            "id": _TEXT,
            "label": _TEXT,
            "local_root": _TEXT,
            "nas_root": _TEXT,
            "completeness_signal": _TEXT,
            "sentinel_filename": _TEXT,
            "manifest_filename": _TEXT,
            "sync_mode": _TEXT,
            "transport": {
                "type": _TEXT,
                "rclone_remote": _TEXT,
                "rclone_remote_path": _TEXT,
                "ssh_target": _TEXT,
                "ssh_key_path": _TEXT,
                "remote_path": _TEXT,
                "bandwidth": _BANDWIDTH,
            },
            "orchestrator_staging_transport": {"type": _TEXT, "mount_point": _TEXT, "staging_subpath": _TEXT},
        }
    ],
    "nas": {"remote": _TEXT, "base_root": _TEXT},
    "nas_cleanup": {"enabled": _FLAG, "min_verify_passes": _NUMBER, "min_age_hours": _NUMBER, "retain_cache": _FLAG},
    "logging": {"level": _TEXT, "central_log_max_mb": _NUMBER, "central_log_keep": _NUMBER},
    "operators": {"allowlist": _TEXTS},
    "validator": {"content_scan_max_mib": _NUMBER, "content_scan_extensions": _TEXTS},
    "plugins": {"allow_network": _FLAG},
    "sync": {"enabled": _FLAG, "retry_attempts": _NUMBER, "ignore_globs": _TEXTS},
    "orchestrator": {
        "label": _TEXT,
        "staging_root": _TEXT,
        "staging_remote": _TEXT,
        "staging_base_root": _TEXT,
        "staging_cleanup": {"mode": _TEXT, "retain_hours": _NUMBER},
    },
}
# The wizard takes these words for truth values too.
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _check(value: Any, known: Any, key: str) -> Iterator[str]:  # noqa: ANN401
    """Yields unknown keys; raises WizardConfigError for a wrong kind."""
    if value is None:
        return
    if isinstance(known, list):
        for number, one in enumerate(_expect(value, list, key, "a list")):
            yield from _check(_expect(one, dict, f"{key}[{number}]", "a mapping"), known[0], f"{key}[{number}]")
    elif isinstance(known, dict):
        for name, inner in _expect(value, dict, key, "a mapping").items():
            full = f"{key}.{name}" if key else name
            if name in known:
                yield from _check(inner, known[name], full)
            else:
                yield full
    elif not _is(value, known):
        raise WizardConfigError(f"{key} must be {known.value}.")


def _expect(value: Any, kind: type, key: str, words: str) -> Any:  # noqa: ANN401
    if not isinstance(value, kind):
        raise WizardConfigError(f"{key} must be {words}.")
    return value


def _is(value: Any, kind: _Kind) -> bool:  # noqa: ANN401
    if kind is _Kind.TEXT:
        return isinstance(value, str)
    if kind is _Kind.TEXTS:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind is _Kind.NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is _Kind.FLAG:
        return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _FLAGS)
    return True


# From values to what matters


def _config(found: dict[str, Any], warnings: list[str]) -> WizardConfig:
    orchestrator, sync = _block(found, "orchestrator"), _block(found, "sync")
    nas = _remote(found, "nas", "remote", "base_root")
    staging = _remote(found, "orchestrator", "staging_remote", "staging_base_root")
    equipment = found.get("equipment") or []
    if nas and any(entry.get("transport") for entry in equipment):
        warnings.append("equipment[].transport is passed over: where nas is set, copies go there.")
    return WizardConfig(
        label=_text(orchestrator, "label"),
        staging_root=_line(orchestrator, "staging_root", "orchestrator.staging_root"),
        staging=staging,
        staging_cleanup=_cleanup(_block(orchestrator, "staging_cleanup")),
        instruments=tuple(_instruments(equipment, nas)),
        nas=nas,
        nas_cleanup=_flag(_block(found, "nas_cleanup").get("enabled")),
        ignore_globs=tuple(sync.get("ignore_globs") or ()),
        copies_at_all=_flag(sync.get("enabled")) is not False,
        warnings=tuple(warnings),
    )


def _block(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    return found.get(key) or {}


def _text(block: Mapping[str, Any], key: str) -> str:
    return str(block.get(key) or "").strip()


def _line(block: Mapping[str, Any], key: str, full: str) -> str:
    text = _text(block, key)
    if not text.isprintable():
        raise WizardConfigError(f"{full} must be one line of printable text.")
    return text


def _flag(value: bool | str | None) -> bool | None:
    return _FLAGS[value.lower()] if isinstance(value, str) else value


def _remote(found: Mapping[str, Any], key: str, name: str, path: str) -> Remote | None:
    block = _block(found, key)
    called, where = (_line(block, part, f"{key}.{part}") for part in (name, path))
    return Remote(called.rstrip(":"), _tidy(where)) if called or where else None


def _tidy(path: str) -> str:
    """A remote path in one spelling, to compare; empty: its top."""
    kept = [part for part in path.split("/") if part not in ("", ".")]
    return ("/" if path.startswith("/") else "") + "/".join(kept)


def _cleanup(block: Mapping[str, Any]) -> WizardCleanup | None:
    mode, hours = block.get("mode"), block.get("retain_hours")
    if mode is None and hours is None:
        return None
    mode = Mode.MANUAL if mode is None else mode.strip()
    if mode not in set(Mode):
        raise WizardConfigError(f"orchestrator.staging_cleanup.mode must be {' or '.join(Mode)}.")
    hours = WIZARD_RETAIN_HOURS if hours is None else hours
    if not 0 <= hours <= MAX_RETAIN_HOURS:
        raise WizardConfigError(
            f"orchestrator.staging_cleanup.retain_hours must be between 0 and {MAX_RETAIN_HOURS:g}."
        )
    return WizardCleanup(mode=Mode(mode), retain_hours=float(hours))


def _instruments(found: list[dict[str, Any]], nas: Remote | None) -> Iterator[WizardInstrument]:
    seen = set()
    for number, entry in enumerate(found):
        key = f"equipment[{number}]"
        equipment = _line(entry, "id", f"{key}.id")
        if not is_folder_name(equipment):
            raise WizardConfigError(f"{key}.id must name an instrument, as its folder is called.")
        if equipment in seen:
            raise WizardConfigError(f"{key}.id: {equipment} stands there twice.")
        seen.add(equipment)
        yield WizardInstrument(
            equipment=equipment,
            copies=_below(nas, equipment) if nas else _transport(entry, key),
            shown_as=_text(entry, "nas_root"),
            pushes="" if nas else _pushes(entry),
        )


def _below(remote: Remote, folder: str) -> Remote:
    return Remote(remote.name, f"{remote.path.rstrip('/')}/{folder}" if remote.path else folder, remote.by_ssh)


def _transport(entry: Mapping[str, Any], key: str) -> Remote | None:
    block = _block(entry, "transport")
    by_ssh = _text(block, "type") == "rsync_ssh"
    names = ("ssh_target", "remote_path") if by_ssh else ("rclone_remote", "rclone_remote_path")
    called, where = (_line(block, part, f"{key}.transport.{part}") for part in names)
    return Remote(called.rstrip(":"), _tidy(where), by_ssh) if called and where else None


def _pushes(entry: Mapping[str, Any]) -> str:
    block = _block(entry, "orchestrator_staging_transport")
    if _text(entry, "sync_mode") != "stage" and not block:
        return ""
    parts = [_text(block, name) for name in ("mount_point", "staging_subpath")]
    return "/".join(part for part in parts if part) or "another host"
