"""What a wizard configuration would register here; nothing is done."""

import os
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace

from cleanup.lab.wizard.wizard_config import Remote, WizardCleanup, WizardConfig, WizardInstrument
from cleanup.lab.wizard.wizard_yaml import WizardConfigError
from cleanup.rules.policies.fields import names_near
from cleanup.rules.policies.policy import Mode
from cleanup.storage.twin_paths import NAMED, LayoutError, parse_layout

MAX_NAME = 64
LEAF = "leaf"
EQUIPMENT_LEAF = "equipment/leaf"
_WINDOWS = re.compile(r"[A-Za-z]:|\\\\|//")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What an admin adds to the configuration."""

    name: str = ""
    staging_root: str = ""
    nas_path: str = ""  # mounts the folder that all instruments share
    # By equipment: mounts what one transport writes into.
    instrument_nas: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The staging root of this path as it is registered."""

    name: str
    nas_path: str
    nas_layout: str
    instrument_nas: Mapping[str, str]

    @property
    def has_nas(self) -> bool:
        return bool(self.nas_path or self.instrument_nas)


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Where an instrument's copies go, and where this host finds them."""

    equipment: str
    remote: str
    shown_as: str  # the wizard's name for the place
    here: str  # empty: unknown


@dataclass(frozen=True, kw_only=True)
class WizardPlan:
    """What would be registered; an empty `nas_path` or no `nas_layout` changes nothing."""

    name: str
    path: str
    nas_path: str
    nas_layout: str | None
    instrument_nas: tuple[tuple[str, str], ...]
    policy: WizardCleanup | None  # for the root's scope
    copies: tuple[Copies, ...]
    obstacles: tuple[str, ...]  # sentences; they stop all of it
    questions: tuple[str, ...]  # sentences; they can be answered later
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Places:
    layout: str
    nas_path: str = ""
    instrument_nas: Mapping[str, str] = field(default_factory=dict)
    mount: Remote | None = None  # the remote folder that one NAS root for all would show
    warnings: tuple[str, ...] = ()

    def here(self, equipment: str) -> str:
        top = self.instrument_nas.get(equipment, self.nas_path)
        folder = NAMED.get(self.layout, self.layout).removesuffix("{leaf}").replace("{equipment}", equipment)
        return os.path.join(top, folder).rstrip("/") if top else ""


def planned(
    config: WizardConfig,
    *,
    host: str,
    answers: Answers | None = None,
    registered: Registered | None = None,
    taken: Container[str] = (),
    is_directory: Callable[[str], bool] = os.path.isdir,
) -> WizardPlan:
    """What a configuration asks for here; `taken`: other roots. Raises WizardConfigError."""
    answers = answers or Answers()
    _refuse_unknown_instruments(config, answers)
    path, obstacles = staging_path(config, answers, host, is_directory)
    name, warnings = _name(config, answers, registered, host)
    if name in taken:
        obstacles.append(f"The name {name} stands for another staging root already: say another with --name.")
    copying = [one for one in config.instruments if one.copies]
    kept = registered if registered and registered.has_nas else None
    changes = not kept or bool(answers.nas_path or answers.instrument_nas)
    if kept and not changes:
        places, questions = _as_registered(kept, config, copying)
    else:
        places = _places(config, copying, answers, is_directory)
        questions = _questions(places, copying, kept)
        if kept and kept.nas_layout != places.layout:
            warnings += [f"The layout changes from {kept.nas_layout} to {places.layout}, for all NAS roots of {name}."]
    return WizardPlan(
        name=name,
        path=path,
        nas_path=places.nas_path if changes else "",
        nas_layout=places.layout if changes and (copying or config.nas) else None,
        instrument_nas=tuple(sorted(places.instrument_nas.items())) if changes else (),
        policy=config.staging_cleanup,
        copies=tuple(_copies(one, places) for one in config.instruments),
        obstacles=tuple(obstacles),
        questions=tuple(questions),
        warnings=(*config.warnings, *warnings, *places.warnings, *_of_copies(config), *_second_cleaners(config)),
    )


# The staging root


def staging_path(
    config: WizardConfig, answers: Answers, host: str, is_directory: Callable[[str], bool] = os.path.isdir
) -> tuple[str, list[str]]:
    """Where staging lies, and what prevents its registration. Raises WizardConfigError."""
    if answers.staging_root:
        return answers.staging_root, []
    path = config.staging_root
    if not path and config.staging and not config.staging.surely_here:
        where = f"Staging lies on a remote, {config.staging}"
        return str(config.staging), [f"{where}: say where that is on {host}, with --staging-root PATH."]
    path = path or (config.staging.path if config.staging else "")
    if not path:
        raise WizardConfigError("orchestrator.staging_root is not set, so there is nothing to register.")
    if _WINDOWS.match(path):
        where = f"orchestrator.staging_root is a path of Windows, {path}: staging lies on another host"
        return path, [f"{where}. If its disk is mounted on {host}, say where with --staging-root PATH."]
    if not path.startswith("/"):
        raise WizardConfigError(f"orchestrator.staging_root must be a whole path that begins with /, not {path}.")
    if not is_directory(path):
        return path, [f"{path} is no directory on {host}: is this the host with the staging disk (EXLAB_HOST)?"]
    return path, []


def _name(config: WizardConfig, answers: Answers, registered: Registered | None, host: str) -> tuple[str, list[str]]:
    if answers.name or registered:
        return answers.name or (registered.name if registered else ""), []
    name = _clean(config.label)
    if not config.label or name == config.label:
        return name or _clean(host) or "staging", []
    name = name or _clean(host) or "staging"
    return name, [f"The wizard's label is no name of a staging root; {name} is proposed, or say another with --name."]


def _clean(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:MAX_NAME].strip()


# Where copies lie


def _refuse_unknown_instruments(config: WizardConfig, answers: Answers) -> None:
    known = [one.equipment for one in config.instruments]
    for equipment in answers.instrument_nas:
        if equipment not in known:
            near = ", ".join(names_near(equipment, known)) or "none"
            raise WizardConfigError(f"--nas-root: no instrument {equipment} stands in the file; nearest: {near}.")


def _places(
    config: WizardConfig,
    copying: list[WizardInstrument],
    answers: Answers,
    is_directory: Callable[[str], bool],
) -> _Places:
    mount, layout = _shared(config, copying)
    if answers.nas_path and not mount and copying:
        raise WizardConfigError(
            "The instruments copy to several remotes: say --nas-root EQUIPMENT=PATH for each of them."
        )
    if not answers.nas_path and not answers.instrument_nas:
        return _found_here(config, copying, mount, layout, is_directory)
    if layout and not answers.instrument_nas:
        return _Places(layout=layout, nas_path=answers.nas_path, mount=mount)
    # One layout must fit all: each instrument gets the folder of its transport.
    own = dict(answers.instrument_nas)
    if mount and answers.nas_path:
        for one in copying:
            if one.copies and one.copies != mount:
                own.setdefault(one.equipment, _joined(answers.nas_path, _below(mount, one.copies)))
    return _Places(layout=LEAF, nas_path=answers.nas_path, instrument_nas=own, mount=mount)


def _found_here(
    config: WizardConfig,
    copying: list[WizardInstrument],
    mount: Remote | None,
    layout: str | None,
    is_directory: Callable[[str], bool],
) -> _Places:
    if config.nas and config.nas.perhaps_here and is_directory(config.nas.path):
        return _Places(layout=EQUIPMENT_LEAF, nas_path=config.nas.path, mount=mount, warnings=_taken_for([config.nas]))
    here = {one.equipment: one.copies for one in copying if one.copies and one.copies.perhaps_here}
    here = {} if config.nas else {name: remote for name, remote in here.items() if is_directory(remote.path)}
    if not here:
        return _Places(layout=layout or LEAF, mount=mount)
    remotes = list(dict.fromkeys(here.values()))
    said = _taken_for(remotes)
    if len(remotes) == 1 and len(here) == len(copying):
        return _Places(layout=LEAF, nas_path=remotes[0].path, mount=mount, warnings=said)
    own = {name: remote.path for name, remote in here.items()}
    return _Places(layout=LEAF, instrument_nas=own, mount=mount, warnings=said)


def _taken_for(remotes: list[Remote]) -> tuple[str, ...]:
    return tuple(
        f"{remote} is taken for {remote.path} on this host, because that is a directory here; if the remote is mounted "
        "elsewhere, say so with --nas-root."
        for remote in remotes
        if not remote.surely_here
    )


def _shared(config: WizardConfig, copying: list[WizardInstrument]) -> tuple[Remote | None, str | None]:
    """The folder above all copies, and the layout below it; None: none."""
    if config.nas:
        return config.nas, EQUIPMENT_LEAF
    remotes = list(dict.fromkeys(one.copies for one in copying if one.copies))
    if len(remotes) < 2:
        return (remotes[0] if remotes else None), LEAF
    first = remotes[0]
    if any(
        (one.name, one.by_ssh, one.path[:1] == "/") != (first.name, first.by_ssh, first.path[:1] == "/")
        for one in remotes
    ):
        return None, None
    templates = {_template(one) for one in copying}
    if len(templates) == 1 and (template := templates.pop()):
        above, layout = template
        return Remote(first.name, above, first.by_ssh), layout
    return Remote(first.name, os.path.commonpath([one.path for one in remotes]), first.by_ssh), None


def _template(one: WizardInstrument) -> tuple[str, str] | None:
    """The folder above the instrument's, and the layout below."""
    parts = one.copies.path.split("/") if one.copies else []
    if parts.count(one.equipment) != 1:
        return None
    at = parts.index(one.equipment)
    try:
        layout = parse_layout("/".join(["{equipment}", *parts[at + 1 :], "{leaf}"]))
    except LayoutError:
        return None
    return "/".join(parts[:at]) or "/" * (at > 0), layout


def _below(mount: Remote, remote: Remote) -> str:
    return remote.path.removeprefix(mount.path).strip("/")


def _joined(path: str, below: str) -> str:
    return os.path.join(path, below) if below else path


def _copies(one: WizardInstrument, places: _Places) -> Copies:
    return Copies(
        equipment=one.equipment,
        remote=str(one.copies or ""),
        shown_as=one.shown_as,
        here=places.here(one.equipment) if one.copies else "",
    )


# What to say


def _questions(places: _Places, copying: list[WizardInstrument], registered: Registered | None) -> list[str]:
    known = _Places(layout=places.layout)
    if registered and registered.nas_layout == places.layout:
        known = _Places(layout=places.layout, nas_path=registered.nas_path, instrument_nas=registered.instrument_nas)
    unsaid = [one for one in copying if not places.here(one.equipment) and not known.here(one.equipment)]
    if unsaid and places.mount and len(unsaid) == len(copying):
        names = ", ".join(one.equipment for one in unsaid)
        of_one = f", or for each instrument --nas-root EQUIPMENT=PATH ({names})" if len(copying) > 1 else ""
        return [f"Where is {_top(places.mount)} mounted on this host? Say it with --nas-root PATH{of_one}."]
    return [
        f"Where is {one.copies}, with the copies of {one.equipment}, mounted on this host? Say it with --nas-root "
        f"{one.equipment}=PATH."
        for one in unsaid
    ]


def _as_registered(
    kept: Registered, config: WizardConfig, copying: list[WizardInstrument]
) -> tuple[_Places, list[str]]:
    mount, layout = _shared(config, copying)
    places = _Places(layout=kept.nas_layout, nas_path=kept.nas_path, instrument_nas=kept.instrument_nas, mount=mount)
    if copying and kept.nas_layout not in (layout, LEAF):
        fitting = layout or "a folder for each instrument"
        below = f", below {_top(mount)}" if mount else ""
        return places, [
            f"{kept.name} is registered with the layout {kept.nas_layout}, and the wizard copies by {fitting}{below}. "
            "Say again with --nas-root where that is mounted, and the layout is changed."
        ]
    # Under `leaf` one NAS root shows the copies of all only if the wizard puts them all into one folder.
    sure = replace(places, nas_path="") if kept.nas_layout == LEAF != layout else places
    return places, _questions(sure, copying, None)


def _top(remote: Remote) -> str:
    return str(remote) if remote.path else f"the top of {remote.name}:"


def _of_copies(config: WizardConfig) -> list[str]:
    said = []
    for one in config.instruments:
        if one.pushes:
            said.append(f"{one.equipment}: its runs are staged elsewhere, at {one.pushes}, and are not cleared here.")
        elif not one.copies:
            said.append(f"{one.equipment}: the file does not say where its copies go.")
    by_place: dict[Remote, list[str]] = {}
    for one in config.instruments:
        if one.copies:
            by_place.setdefault(one.copies, []).append(one.equipment)
    for remote, names in by_place.items():
        if len(names) > 1:
            said.append(
                f"{', '.join(names)} copy into one folder, {remote}: two runs of the same minute share a copy there, "
                "and neither can be cleared (ambiguous_twin)."
            )
    if config.ignore_globs:
        said.append(
            f"sync.ignore_globs: the wizard never copies what matches {', '.join(config.ignore_globs)}. A run that "
            "holds such a file stays (not_in_manifest, nas_missing_file)."
        )
    if not config.copies_at_all:
        said.append("sync.enabled is off: the wizard copies nothing, so no run becomes verified.")
    return said


def _second_cleaners(config: WizardConfig) -> list[str]:
    said = []
    if config.staging_cleanup and config.staging_cleanup.mode is Mode.SCHEDULED:
        said.append(
            "A second cleaner: with orchestrator.staging_cleanup.mode at scheduled the wizard removes verified runs "
            "itself, without looking at the NAS again. Set it to manual in the wizard."
        )
    if config.nas_cleanup is not False:
        how = "enabled" if config.nas_cleanup else "on, as always where the file does not say otherwise"
        said.append(
            f"A second cleaner: nas_cleanup is {how}, so the wizard removes the data of runs that it has copied. Set "
            "nas_cleanup.enabled to false in the wizard."
        )
    return said
