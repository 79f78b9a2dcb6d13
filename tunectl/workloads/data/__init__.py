"""The data of the built-in workloads: the readers for what is on disk or inside packages, and what a batch becomes."""
