"""What a look at a NAS root found, and under which layout it holds the copies of verified runs."""

import os
from collections.abc import Iterator
from typing import Any

from cleanup.lab.nas.nas_roots import twin_of
from cleanup.lab.roots import opening, root_checks, two_places
from cleanup.lab.roots.opening import Unreachable
from cleanup.models import Run, StagingRoot
from cleanup.runs.root_requests import check_lines
from cleanup.runs.root_requests.check_lines import BLOCK, PASS, WAIT, CheckLine
from cleanup.storage.mounts.places import Place
from cleanup.storage.nas.top_look import TopLook
from cleanup.storage.twin_paths import NAMED

# Of a staging root's verified runs, the newest are looked for.
MOST_RUNS = 200
# What an admin may say of the mount of a NAS root.
MOUNT_FLAGS = ("allow_same_filesystem", "allow_union_nas", "nas_writes_through")


def as_it_would_be(root: StagingRoot, path: str, equipment: str, flags: dict[str, bool]) -> StagingRoot:
    """A registered root with a NAS root at `path`, unsaved; `equipment`: that of one instrument."""
    seen = StagingRoot.objects.get(pk=root.pk)
    for name in MOUNT_FLAGS:
        setattr(seen, name, getattr(seen, name) or bool(flags.get(name)))
    if equipment:
        seen.instrument_nas = {**seen.instrument_nas, equipment: {"path": path, "token": ""}}
    else:
        seen.nas_path, seen.nas_token = path, ""
    return seen


def verified(root: StagingRoot, equipment: str) -> list[Run]:
    """The newest verified runs whose copies the NAS root should hold."""
    runs = Run.objects.verified().filter(root=root, gone_at=None)
    if equipment:
        runs = runs.filter(equipment=equipment)
    elif root.instrument_nas:
        runs = runs.exclude(equipment__in=list(root.instrument_nas))
    return list(runs.defer("facts").order_by("-verified_at")[:MOST_RUNS])


def twins(seen: StagingRoot, runs: list[Run], own_layout: str = "") -> dict[str, list[str]]:
    """By layout: the paths below the NAS root at which these runs would have their copies."""
    found = {}
    for layout in filter(None, dict.fromkeys([own_layout, *NAMED, seen.nas_layout])):
        for run in runs:
            run.root = seen
        found[layout] = [twin_of(run, nas_layout=layout).path for run in runs]
    return found


def counts(paths: dict[str, list[str]], look: TopLook, now_used: str) -> list[dict[str, Any]]:
    """`{"layout", "found", "of", "used"}` for each layout, the one with most copies first."""
    present = set(look.present)
    counted = []
    for layout, wanted in paths.items():
        found = sum(twin in present for twin in wanted)
        counted.append({"layout": layout, "found": found, "of": len(wanted), "used": layout == now_used})
    return sorted(counted, key=lambda each: (-each["found"], not each["used"]))


def of_nas(look: TopLook, seen: StagingRoot, equipment: str, layouts: list[dict[str, Any]]) -> list[CheckLine]:
    """What speaks for and against a folder as a NAS root of `seen`, which names it already."""
    lines = list(check_lines.of_folder(look, "NAS root"))
    lines = [_rights(line) for line in lines]
    if not check_lines.fits(lines):
        return lines
    lines += [*_others(look, seen, equipment), *_second_place(look, seen), *_marker(look), *_copies(layouts)]
    return lines


def _rights(line: CheckLine) -> CheckLine:
    if line.name == "rights" and line.verdict == BLOCK:
        return CheckLine("rights", WAIT, "The account of the worker may only read there: no receipts are laid there.")
    return line


def _others(look: TopLook, seen: StagingRoot, equipment: str) -> Iterator[CheckLine]:
    own = StagingRoot.objects.get(pk=seen.pk)
    before = own.instrument_nas.get(equipment, {}).get("path", "") if equipment else own.nas_path
    if before and before != look.real:
        whose = equipment or own.name
        yield CheckLine("others", BLOCK, f"{whose} has the NAS root {before} already: “Register again” changes it.")
        return

    def check() -> None:
        root_checks.refuse_overlaps(own.path, look.real, own)
        if look.token:
            root_checks.refuse_known_tokens(_with_token(seen, look.token))

    yield from check_lines.refused("others", check, "No staging root lies there.")


def _with_token(seen: StagingRoot, token: str) -> StagingRoot:
    copy = StagingRoot(pk=seen.pk, name=seen.name, host=seen.host, path=seen.path, token=seen.token)
    copy.nas_path, copy.nas_token = seen.nas_path or "/-", token
    return copy


def _second_place(look: TopLook, seen: StagingRoot) -> Iterator[CheckLine]:
    if look.shows_staging:
        yield CheckLine("second", BLOCK, f"It shows a staging disk: {look.shows_staging}. Mount the NAS alone.")
        return
    if not look.place:
        yield CheckLine("second", BLOCK, "The mount on which it lies cannot be told.")
        return
    place = Place.from_json(look.place)
    try:
        with opening.open_root(seen) as staging:
            found = list(two_places.findings(seen, staging, place))
            one = os.fstat(staging).st_dev == place.device
    except Unreachable as error:
        yield CheckLine("second", BLOCK, f"The staging root cannot be opened: {error.finding.said}")
        return
    for finding in found:
        yield CheckLine("second", BLOCK, finding.said)
    if one and not found:
        verdict = WAIT if seen.allow_same_filesystem else BLOCK
        yield CheckLine("second", verdict, "It lies on the filesystem of the staging root: that is no second copy.")
    elif not found:
        warning = two_places.acceptance(seen, place).warning
        words = f"{place.mount.fstype}, another storage than the staging root as far as is seen."
        yield CheckLine("second", WAIT if warning else PASS, warning or words)


def _marker(look: TopLook) -> Iterator[CheckLine]:
    if look.bad_token:
        yield CheckLine("marker", BLOCK, "The marker .exlab-root at its top is not readable: it holds no UUID.")
    elif look.empty:
        yield CheckLine("marker", WAIT, "The folder is empty: is the NAS mounted?")
    elif look.token:
        yield CheckLine("marker", PASS, "It carries a marker, by which it is known again.")
    elif look.writable:
        yield CheckLine("marker", PASS, "No marker yet. Registering lays one, so that the NAS is known again.")
    else:
        words = "It carries no marker, and none can be laid: write a UUID into .exlab-root at its top."
        yield CheckLine("marker", BLOCK, words)


def _copies(layouts: list[dict[str, Any]]) -> Iterator[CheckLine]:
    best = layouts[0] if layouts else None
    if best is None or not best["of"]:
        yield CheckLine("copies", WAIT, "No verified run is known yet, so the layout cannot be tried.")
    elif not best["found"]:
        yield CheckLine("copies", WAIT, f"None of {best['of']} verified runs is found there, under any layout.")
    else:
        verdict = PASS if best["found"] == best["of"] else WAIT
        words = f"{best['found']} of {best['of']} verified runs found under the layout {best['layout']}."
        yield CheckLine("copies", verdict, words)
