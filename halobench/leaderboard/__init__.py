"""Leaderboard: tables, figures and a page, derived from results alone."""
