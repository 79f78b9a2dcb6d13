"""Tables as pandas data frames, with the columns, their order and their types as in the Parquet files in `tables/`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tunectl.report.parquet import parquet_bytes
from tunectl.report.table import Table

if TYPE_CHECKING:
    import pandas


def frame(table: Table) -> pandas.DataFrame:
    """A table as a data frame; see `frame_of`."""
    return frame_of(parquet_bytes(table))


def frame_of(parquet: bytes) -> pandas.DataFrame:
    """The data frame that pandas reads from a Parquet file with these bytes.

    Whole numbers are Int64 (UInt64 where they need it), booleans boolean, real numbers float64 and texts string, so
    that a missing value changes no type. Made of the very bytes of the file, a frame cannot differ from it.
    """
    import pandas

    return pandas.read_parquet(io.BytesIO(parquet))
