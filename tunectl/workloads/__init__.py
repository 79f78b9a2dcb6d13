"""What is trained: the Workload type and the built-in ones. Importing this package loads no torch."""
