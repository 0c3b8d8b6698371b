"""Looks at the runs of a staging disk, one at a time or many at once."""
