"""What an error is, and whether a retry can help."""
