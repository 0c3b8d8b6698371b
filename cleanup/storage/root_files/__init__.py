"""The files of ours at the top of a root: token, markers, reserve."""
