"""Settings: each is read strictly, else a sentence says what to write."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_WHOLE = re.compile(r"[0-9]{1,15}")
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_VARIABLE = re.compile(r"\$(\w+|\{.*\})")

# Names like ours that others read: docker/compose.yaml, ExLab-Wizard, the tests.
_OF_OTHERS = frozenset(
    {
        "EXLAB_STAGING",
        "EXLAB_NAS",
        "EXLAB_UID",
        "EXLAB_PORT",
        "EXLAB_ADMIN_EMAIL",
        "EXLAB_ADMIN_PASSWORD",
        "EXLAB_APP_IMAGE",
        "EXLAB_AUTOSTART_ROOT",
        "EXLAB_COMPOSE_FILE",
        "EXLAB_DEPLOY_DIR",
        "EXLAB_EMAIL",
        "EXLAB_ENDPOINT",
        "EXLAB_PASSWORD",
        "EXLAB_PREFIX",
        "EXLAB_STATE_DIR",
        "EXLAB_TESTING",
        "EXLAB_WINDOW_EXECUTABLE",
        "EXLAB_CASES",
        "EXLAB_SAMPLE",
    }
)
_OF_TESTS = ("EXLAB_TEST", "EXLAB_REQUIRE_")
# From this likeness on a name is a typing mistake; 1 is the same name.
_ALIKE = 0.7


class WrongSettings(ImproperlyConfigured):
    """A sentence for each wrong setting says what to write."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A line in the table of settings, in Markdown."""

    name: str
    default: str
    may_be: str
    means: str


class Reader:
    """Reads settings from texts by name; empty means not set.

    `finish` raises all sentences about wrong texts together.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self.settings: dict[str, Setting] = {}
        self.strangers: tuple[str, ...] = ()
        self._given = given
        self._texts: dict[str, str] = {}
        self._wrong: list[str] = []

    def value(
        self,
        name: str,
        parse: Callable[[str], T],
        default: T,
        *,
        means: str,
        may_be: str,
        said: str | None = None,
        nothing: T | None = None,
    ) -> T:
        """`parse` raises ValueError with the rest of the sentence after the name.

        `said`: the default as the table shows it; `nothing`: the value of a setting that is set to an empty text.
        """
        shown = f"`{default}`" if said is None else said
        self.settings[name] = Setting(name=name, default=shown, may_be=may_be, means=means)
        text = self._texts[name] = self._given.get(name, "").strip()
        if not text:
            return default if nothing is None or name not in self._given else nothing
        try:
            return parse(_plain(text))
        except ImproperlyConfigured as wrong:  # it names the setting itself
            self._wrong.append(str(wrong))
        except ValueError as wrong:
            self._wrong.append(f"{name}: {wrong}")
        return default

    def flag(self, name: str, *, means: str) -> bool:
        return self.value(
            name, parse_flag, False, means=means, may_be="`1` or `0` (true, yes, on; false, no, off)", said="off"
        )

    def whole(self, name: str, default: int, *, low: int, high: int, of: str, means: str) -> int:
        parse = whole_number(low, high, of)
        return self.value(name, parse, default, means=means, may_be=f"a whole number of {of}, {low} to {high}")

    def seconds(self, name: str, default: float, *, low: float, high: float, means: str) -> float:
        may_be, said = f"seconds without a unit, {low:g} to {high:g}", f"`{default:g}`"
        return self.value(name, seconds_between(low, high), default, means=means, may_be=may_be, said=said)

    def text(self, name: str) -> str:
        return self._texts[name]

    def hand_on(self, name: str, text: str) -> None:
        self._texts[name] = text

    def handed_on(self) -> dict[str, str]:
        """For child processes: the same even if `.env` or folders change."""
        return dict(self._texts)

    def finish(self) -> None:
        """Raise WrongSettings for unknown names and all wrong texts."""
        unknown = sorted(name for name in self._given if _looks_like_ours(name, self.settings))
        meant = {name: _nearest(name, self.settings) for name in unknown}
        self.strangers = tuple(name for name, near in meant.items() if not near)
        slips = [f"{name}: there is no such setting; write {near} instead." for name, near in meant.items() if near]
        if self._wrong or slips:
            raise WrongSettings(*self._wrong, *slips)


def parse_flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither on nor off; write 1 or 0.") from None


def whole_number(low: int, high: int, of: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(
                f"{text!r} is no whole number of {of} from {low} to {high}; write digits alone, as in {low}."
            )
        return int(text)

    return parse


def seconds_between(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text) or not low <= float(text) <= high:
            raise ValueError(
                f"{text!r} is no number of seconds from {low:g} to {high:g}; write it without a unit, as in 60."
            )
        return float(text)

    return parse


def items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def nearest(text: str, known: Collection[str]) -> str:
    return next(iter(difflib.get_close_matches(text, known, n=1, cutoff=_ALIKE)), "")


def _plain(text: str) -> str:
    """The text; raises ValueError for quotation marks, variables and unprintable characters."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        raise ValueError("the quotation marks are taken for a part of it; write it without them.")
    if _VARIABLE.fullmatch(text):
        raise ValueError("nothing is put in here for a name that begins with $; write the value itself.")
    if any(not character.isprintable() for character in text):
        raise ValueError("there is a line break or another character in it that cannot be seen; write it anew.")
    return text


def _looks_like_ours(name: str, settings: Collection[str]) -> bool:
    known = name in settings or name in _OF_OTHERS or name.startswith(_OF_TESTS)
    return name.upper().startswith("EXLAB") and not known


def _nearest(name: str, settings: Collection[str]) -> str:
    by_rest = {setting.removeprefix("EXLAB_"): setting for setting in settings}
    rest = re.sub(r"^EXLAB[_-]?", "", name.upper())
    return by_rest.get(nearest(rest, by_rest), "")
