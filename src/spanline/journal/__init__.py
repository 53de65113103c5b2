"""Read and append journals, and what their events amount to."""
