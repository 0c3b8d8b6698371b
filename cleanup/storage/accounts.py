"""Names of the operating system's accounts."""

import pwd


def name_of(uid: int) -> str:
    """Returns an account's name; empty where it has none, as in a container with a bare uid."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
