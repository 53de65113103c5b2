"""Read and append journals, and fold their events into states."""
