"""Files: the run tree, the twin on the NAS, what lies beneath mounts. The standard library only."""
