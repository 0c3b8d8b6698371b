"""Sweeps: what the passes over a staging root come to, beyond a single one."""
