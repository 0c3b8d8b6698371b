"""Staging roots: registered, known again, checked, opened and locked."""
