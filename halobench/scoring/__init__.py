"""Scorers: what is measured of a policy; `halobench.SCORERS` loads them by name."""
