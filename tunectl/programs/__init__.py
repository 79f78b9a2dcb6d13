"""Trials of the user's own code.

A command is how the user's program is started as a process; a function is the user's Python function. Own code is both.
"""
