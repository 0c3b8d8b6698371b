"""Signed receipts: what one clear has removed, and what proves it."""
