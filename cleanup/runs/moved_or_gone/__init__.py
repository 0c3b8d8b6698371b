"""Runs that are not where they were: moved, returned, gone, or cleared by another program."""
