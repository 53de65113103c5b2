"""Classify errors: their category, and whether a retry can help."""
