"""The benchmark of training speed: halobench against TRL, one process stepping at a time."""
