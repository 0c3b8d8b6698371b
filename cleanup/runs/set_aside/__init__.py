"""Files that a person has taken out of a run."""
