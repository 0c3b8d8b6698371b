"""Staging roots, their NAS roots, and how this host reaches them."""
