"""Proofs: whether the NAS holds every byte of a run, and what people said of the answer."""
