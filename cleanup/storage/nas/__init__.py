"""The NAS side of files: what the process that reads a NAS root does there."""
