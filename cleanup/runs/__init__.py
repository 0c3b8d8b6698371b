"""Runs: what is known of each, and what was seen of it."""
