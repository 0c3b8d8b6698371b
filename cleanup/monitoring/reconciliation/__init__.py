"""Reconciliation: whether database, disks, NAS and data directory tell the same."""
