"""Room on a full disk: which runs go, how long that takes, and what else would give space."""
