"""What the measurements say: pure functions from results to frozen results."""
