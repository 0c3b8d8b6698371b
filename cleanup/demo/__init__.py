"""The demo: a small lab below the data directory, with real bytes, real clears and an invented past."""

from cleanup.demo.accounts import new_passwords
from cleanup.demo.making import Demo, make

__all__ = ["Demo", "make", "new_passwords"]
