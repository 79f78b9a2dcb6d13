"""The search space: what is drawn for each trial, from a scrambled Halton sequence or a list."""
