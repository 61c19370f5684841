"""Models: how they are made, loaded and asked for log-probabilities."""
