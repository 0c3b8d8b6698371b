"""Staging roots and NAS roots: the list, a root's page, and what an admin asks of their hosts."""
