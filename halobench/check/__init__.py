"""Checks a recipe against all that it names: data, model, loss, scorers; before anything runs."""
