"""Long paths where only their ends have room."""

# So many parts of a path are shown; they name a run in every layout.
SHOWN = 2
# A path as short as this is shown whole.
SHORT = 32


def short_path(path: str) -> str:
    """`…/Runs/Run_2026-04-17T14-32` for a long path; empty for one that is short enough to be shown whole."""
    parts = path.split("/")
    if len(path) <= SHORT or len(parts) <= SHOWN + 1:
        return ""
    return "/".join(("…", *parts[-SHOWN:]))
