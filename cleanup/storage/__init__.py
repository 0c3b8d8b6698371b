"""Files: the run tree, the twin, storage beneath mounts. The standard library and `rules` only."""
