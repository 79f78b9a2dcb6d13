"""The error for a file of a data set that is not as its format says."""


class DamagedFile(ValueError):  # noqa: N818  (what is wrong with a file: the reader adds which, and where to get it)
    """The content of a file is damaged, incomplete or of another kind; the message says what was expected there."""
