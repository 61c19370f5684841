"""Data: sources, matched views of one canonical feedback, tokens, and the plan of the optimizer steps."""
