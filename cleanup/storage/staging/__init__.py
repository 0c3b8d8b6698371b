"""The run tree on a staging disk."""
