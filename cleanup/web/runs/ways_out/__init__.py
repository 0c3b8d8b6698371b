"""The ways out of a refusal on a run's page."""
