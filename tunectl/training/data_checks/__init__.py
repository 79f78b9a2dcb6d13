"""The checks of the data that `check --probe` makes: duplicates between splits, classes, values."""
