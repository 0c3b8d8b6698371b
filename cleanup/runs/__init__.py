"""Runs: what is known of each, and what the disk showed."""
