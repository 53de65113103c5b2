"""What the operating system gives: processes, standard streams, files."""
