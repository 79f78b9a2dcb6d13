"""Settings compared: whether the evidence distinguishes them."""
