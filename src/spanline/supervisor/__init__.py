"""Supervise a run: sessions, attempts, retries, cancels, and the sinks beside them."""
