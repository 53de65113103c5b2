"""What a run produced: its result, its summary, its numbers, its log lines."""
