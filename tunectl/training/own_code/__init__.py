"""One trial that is the user's own code: a program, or a function. Importing this package loads no torch."""
