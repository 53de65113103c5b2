"""The operating system: processes, standard streams, files."""
