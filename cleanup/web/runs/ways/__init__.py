"""The ways out of a refusal, on a run's page: each is a button, a question and a deed."""
