"""Measurements. `python -m bench` compares with the tools that a person uses; the other modules are run by name."""
