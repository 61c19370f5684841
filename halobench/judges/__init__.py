"""Judges: who compares the policy's answers in online alignment; `halobench.JUDGES` loads them by name."""
