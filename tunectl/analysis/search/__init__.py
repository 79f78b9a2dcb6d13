"""What the searched values show: boundaries of the search space, dense regions, hyperparameters without effect."""
