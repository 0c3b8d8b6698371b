"""Decisions: no Django, no disk, no clock."""
