"""What the searched values show: boundaries, dense regions, hyperparameters without effect."""
