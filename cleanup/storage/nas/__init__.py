"""The NAS side: a process of its own reads each NAS root."""
