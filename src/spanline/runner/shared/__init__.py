"""What others than the runner use of it too: the journal is written, and ids are made, in one way only."""
