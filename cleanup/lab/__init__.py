"""The lab: staging roots, their NAS roots, and how to reach them."""
