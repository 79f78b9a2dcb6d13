"""The command line. Each command parses its arguments, calls one function, prints, and returns an exit code."""
