"""Where runs are kept: their directories, specs, leases and cursors."""
