"""Errors, records and names that every room shares; imports nothing."""
