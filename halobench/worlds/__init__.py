"""Built-in worlds: sources of feedback whose true utility is known."""
