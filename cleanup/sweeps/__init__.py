"""Sweeps: they clear by themselves what is due, and are planned, recorded and stopped here."""
