"""What `tunectl init` writes: a study file from a command line, its help text and a sample of its output."""
