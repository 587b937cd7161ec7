"""Runs and their stages, the models that they made, metrics and scores."""
