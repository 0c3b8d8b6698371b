"""Print docs/reasons.md, made from the closed list of reasons.

.venv/bin/python docs/make_reasons.py > docs/reasons.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cleanup.rules.reasons import Reason
from cleanup.rules.remedies import REMEDIES, Remedy

HEAD = """# Every reason, and its way out

A run stays for one of these reasons. The sentences are those that the pages show. "Where" says on which page a person
settles it and by which button, or why there is no button. Each reason has a stable code, the same on the pages, in the
ledger, in JSON and on the command line. (`docs/make_reasons.py` makes this list from the code; a test compares both.)
"""


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield from HEAD.splitlines()
    for reason in Reason:
        yield from ("", f"## `{reason}`", "", f"{reason.sentence}", "", f"- What to do: {reason.advice}")
        yield f"- Where: {said(REMEDIES[reason])}"


def said(remedy: Remedy) -> str:
    """Where a reason is settled, as a sentence."""
    buttons = " or ".join(f"“{button}”" for button in remedy.buttons)
    if not buttons:
        return f"{remedy.where}."
    return f"{remedy.where}: {buttons}." if remedy.where.is_page else f"{remedy.where}; then {buttons}."


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())
