"""The ways out of a refusal on a run's page: a button, a question and an act."""
