"""Hears what changes on staging disks, so that a new run shows in seconds; timed discovery misses nothing."""
