"""Words for the people whom a run's record names."""

from cleanup.text.values import visible


def first_person(names: list[str] | None) -> str:
    """`asmith`, or `asmith +2` with two more; empty where none is named."""
    if not names:
        return ""
    first = visible(names[0])
    return f"{first} +{len(names) - 1}" if len(names) > 1 else first


def all_people(names: list[str] | None) -> str:
    """`asmith, bjones`."""
    return ", ".join(map(visible, names or ()))
