"""Procedures that rescale the weights of a model before its first update."""
