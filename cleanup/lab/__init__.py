"""The laboratory: staging roots, their NAS roots, and how they are reached."""
