"""Policies: what one is, which applies, how it is said, and what a new version changes."""
