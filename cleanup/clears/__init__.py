"""Clears: the removal of a run's staging copy, and the requests for it."""
