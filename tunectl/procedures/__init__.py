"""The playbook's procedures: pure functions that say which trials come next, and what all of them say in the end."""
