"""Clears: how one run's staging copy is removed, and who asks for it."""
