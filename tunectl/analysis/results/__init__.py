"""Trials and their results: the best of each setting, retrains, the variation between seeds."""
