"""The Python interface: a study folder as data frames and plain objects, and runs that are started from Python."""
