"""Orphans: what lies on a staging disk and is no known run."""
