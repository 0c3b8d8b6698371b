"""People: what they may do, how they sign in, and who typed a command."""
