"""The comparison of settings: whether the trials and retrains distinguish them."""
