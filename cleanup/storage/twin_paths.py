"""Where a run's twin lies below its NAS root. A layout is a template of `_FIELDS`, or a name of `NAMED`."""

import re
import unicodedata

from cleanup.storage.run_paths import RunPath

# ExLab-Wizard's own transport copies to `<remote path>/<leaf>`, where the default does not look.
RUN_PATH = "run-path"
NAMED = {
    RUN_PATH: "{equipment}/{project}/{kind}/{leaf}",
    "equipment/leaf": "{equipment}/{leaf}",
    "leaf": "{leaf}",
}
_FIELD = re.compile(r"\{(\w*)\}")
# `kind` is `Runs` or `TestRuns`.
_FIELDS = frozenset({"equipment", "project", "kind", "leaf"})
MAX_LENGTH = 255


class LayoutError(ValueError):
    """Why a layout cannot be used, as a sentence for the operator."""


def parse_layout(text: str) -> str:
    """Returns a layout as stored: a name of `NAMED` or a template. Raises LayoutError."""
    if text in NAMED:
        return text
    for name, template in NAMED.items():
        if text == template:
            return name
    if len(text) > MAX_LENGTH:
        raise LayoutError(f"A layout has at most {MAX_LENGTH} characters.")
    unknown = [field for field in _FIELD.findall(text) if field not in _FIELDS]
    if unknown:
        raise LayoutError(f"The layout {text} names {{{unknown[0]}}}; known are {', '.join(sorted(_FIELDS))}.")
    if "{leaf}" not in text:
        raise LayoutError(f"The layout {text} has no {{leaf}}, so all runs would have one copy on the NAS.")
    literal = _FIELD.sub("x", text)
    if "{" in literal or "}" in literal:
        raise LayoutError(f"The layout {text} has a brace that opens or closes no field.")
    if not literal.isprintable() or any(part in ("", ".", "..") or part.startswith(".") for part in literal.split("/")):
        raise LayoutError(f"The layout {text} is no relative path of visible folders.")
    return text


def twin_path(layout: str, run_path: RunPath) -> str:
    """Returns a twin's path below its NAS root; an empty step is left out."""
    values = {
        "equipment": run_path.equipment,
        "project": run_path.project,
        "kind": run_path.folder,
        "leaf": run_path.leaf,
    }
    filled = _FIELD.sub(lambda found: values[found[1]], NAMED.get(layout, layout))
    return "/".join(part for part in filled.split("/") if part)


def as_one_name(path: str) -> str:
    """Returns a path as the least strict NAS keeps it, to find paths that collide."""
    # Many NAS ignore case, ZFS and APFS the spelling of accents, Windows dots or blanks at the end.
    steps = (step.rstrip(". ") or step for step in path.split("/"))
    spelt = unicodedata.normalize("NFKC", "/".join(steps)).casefold()
    return unicodedata.normalize("NFKC", spelt)
