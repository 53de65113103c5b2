"""What a run amounts to: its result, its summary, its numbers, its log lines."""
