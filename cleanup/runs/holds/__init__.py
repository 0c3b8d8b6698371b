"""Holds: which runs are kept, by whom, and which other runs may be the same."""
