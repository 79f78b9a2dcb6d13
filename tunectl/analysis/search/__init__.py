"""What the searched values show: boundaries of the search space, unstable regions, hyperparameters without effect."""
