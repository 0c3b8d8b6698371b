"""How pages say numbers, instants and names; units are decimal."""

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.html import format_html
from django.utils.text import Truncator

from cleanup.lab import days
from cleanup.lab.nas.nas_roots import twin_of
from cleanup.models import ClearAttempt, LedgerEntry, Run, StagingRoot
from cleanup.rules import visible_names
from cleanup.rules.freed import say_fill, say_freed
from cleanup.rules.quantities import say_about
from cleanup.rules.reasons import Reason

UNKNOWN = "—"
FLAGS = {
    "allow_same_filesystem": "The copy on the NAS lies on the same disk: for trials only (--allow-same-filesystem).",
    "allow_union_nas": "The NAS may be a union of several directories (--allow-union-nas).",
    "nas_writes_through": "The NAS mount is trusted to hold no writes back (--nas-writes-through).",
}
SPANS = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


def twin_place(run: Run, clear: ClearAttempt | None = None) -> str:
    """The path of a run's twin, empty without a NAS root; with `clear` the path at that clear."""
    return (clear.twin_path if clear else "") or twin_of(run).full_path


def in_units(size: int | None) -> str:
    """`412.8 GB`; unknown is a dash."""
    if size is None:
        return UNKNOWN
    return say_about(size)


def exact_bytes(size: int | None) -> str:
    """`412,800,000,000 bytes`."""
    if size is None:
        return "size unknown"
    return f"{size:,} byte" if abs(size) == 1 else f"{size:,} bytes"


def given_back(clear: ClearAttempt | LedgerEntry) -> str:
    """What a disk gave back for a clear; empty if not measured."""
    removed = clear.freed_allocated_bytes if isinstance(clear, ClearAttempt) else clear.allocated_bytes
    return say_freed(removed, clear.measured_bytes, clear.unmeasured)


def fuller(clear: ClearAttempt) -> str:
    """`100 % → 34 %`: before and after a clear."""
    return say_fill(clear.disk_bytes, clear.disk_free_before, clear.disk_free_after)


def flag_sentences(names: str) -> list[str]:
    return [FLAGS[name] for name in names.split(", ") if name in FLAGS]


def mount_flags(root: StagingRoot) -> list[str]:
    return [FLAGS[name] for name in ("allow_union_nas", "nas_writes_through") if getattr(root, name)]


def count(number: int | None) -> str:
    """`1,204`; unknown is a dash."""
    return UNKNOWN if number is None else f"{number:,}"


def files(number: int | None) -> str:
    """`1,204 files`."""
    return _plural(number, "file")


def runs(number: int | None) -> str:
    """`31 runs`."""
    return _plural(number, "run")


def duration(length: timedelta | None) -> str:
    """`45 s`, `6 h 12 m`, `2 days 4 h`, `23 days`; never too short."""
    if length is None:
        return UNKNOWN
    seconds = -(-length // timedelta(seconds=1))
    if seconds <= 0:
        return "0 s"
    if seconds < 60:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(minutes, 60, "{} h", "{} m")
    hours = -(-minutes // 60)
    days, rest = divmod(hours, 24)
    words = "1 day" if days == 1 else f"{days:,} days"
    return f"{words} {rest} h" if rest and days < 14 else words


def ago(instant: datetime | None, now: datetime) -> str:
    """`12 s ago`, `in 6 h 12 m`."""
    if instant is None:
        return "never"
    if instant > now:
        return f"in {duration(instant - now)}"
    seconds = int((now - instant).total_seconds())
    if seconds < 5:
        return "just now"
    size, unit = next((size, unit) for size, unit in SPANS if seconds >= size)
    number = seconds // size
    return f"{number:,} {unit}{'s' if unit == 'day' and number != 1 else ''} ago"


def instant(moment: datetime | None) -> str:
    """`2026-04-17 14:32`, in the lab's zone, which each page names once."""
    return "never" if moment is None else f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"


def exact_instant(moment: datetime | None) -> str:
    """`2026-04-17 14:32:07 UTC`, where no page names the zone, and where it is asked for exactly."""
    if moment is None:
        return "never"
    local = timezone.localtime(moment)
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname() or ''}".rstrip()


def dated(moment: datetime | None) -> str:
    """An instant as HTML: to the minute, exactly where the mouse rests on it."""
    return _timed(moment, instant(moment))


def until(moment: datetime, now: datetime) -> str:
    """The end of a hold as HTML: `the end of 6 December`."""
    return _timed(moment, days.say_end(moment, now))


def machine(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()


def visible(text: object) -> str:
    r"""The text with invisible characters spelled out, such as `\u202e`: instruments and open shares give names."""
    return visible_names.visible(str(text))


def said(value: str | datetime) -> str:
    """A text of at most 300 characters, or an instant as HTML."""
    return dated(value) if isinstance(value, datetime) else Truncator(visible(value)).chars(300)


def sentence(code: str) -> str:
    """The sentence of a reason; a code of another version stays as it is."""
    try:
        return Reason(code).sentence
    except ValueError:
        return visible(code)


def advice(code: str) -> str:
    try:
        return Reason(code).advice
    except ValueError:
        return ""


def _timed(moment: datetime | None, words: str) -> str:
    if moment is None:
        return words
    return format_html('<time datetime="{}" title="{}">{}</time>', machine(moment), exact_instant(moment), words)


def _plural(number: int | None, noun: str) -> str:
    if number is None:
        return f"{UNKNOWN} {noun}s"
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _two(amount: int, size: int, big: str, small: str) -> str:
    many, few = divmod(amount, size)
    return " ".join(part for part in (big.format(many), small.format(few) if few else "") if part)
