"""What operators are told without asking: problems, and what sweeps will take."""
