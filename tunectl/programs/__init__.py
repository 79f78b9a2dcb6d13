"""A trial that is a program or a function of the user's own."""
