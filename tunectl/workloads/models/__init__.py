"""The reference models of the built-in workloads, and the parts that they share."""
