"""Real runs to compare with, found by listing folders."""
