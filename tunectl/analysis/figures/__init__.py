"""The data of figures."""
