"""Alignment losses, one family per file; `halobench.LOSSES` loads them by name."""
