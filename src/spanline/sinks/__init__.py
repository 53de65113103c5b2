"""Sinks: readers of the journal that tell a backend what happened; `base` is the machinery."""
