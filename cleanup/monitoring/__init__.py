"""What people are told without asking: what passes will take, before they take it."""
