"""Sweeps clear by themselves what is due; they are planned, recorded and stopped here."""
