"""Proofs that are made ahead of a click, so that the click need not wait for them."""
