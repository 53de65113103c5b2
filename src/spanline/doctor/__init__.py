"""What is in order here and what is not, before a run or after one that went wrong."""
