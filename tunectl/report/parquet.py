"""Tables as Parquet: types that stay what they are with missing values, also when pandas reads them."""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, assert_never

from tunectl.core.jsontext import encodable
from tunectl.core.table_columns import Cell, Column
from tunectl.report.table import Table, exact

if TYPE_CHECKING:
    import pyarrow

ParquetType = Literal["int64", "uint64", "double", "bool", "string"]

_EXACT_IN_A_FLOAT = 2**53
# What pandas is to make of each type: left to itself it would turn whole numbers with gaps into floats.
_PANDAS_TYPES: dict[ParquetType, tuple[str, str]] = {
    "int64": ("int64", "Int64"),
    "uint64": ("uint64", "UInt64"),
    "double": ("float64", "float64"),
    "bool": ("bool", "boolean"),
    "string": ("unicode", "string"),
}


def parquet_bytes(table: Table) -> bytes:
    """The table as Parquet; the same table gives the same bytes."""
    columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.columns)
    types = [parquet_type(column, values) for column, values in zip(table.columns, columns, strict=True)]
    return write_groups(table.header, types, [columns])


def parquet_type(column: Column, values: Sequence[Cell]) -> ParquetType:
    """The type of a column that holds these values: numbers where all are, text where kinds are mixed."""
    if column.type == "real":
        return "double"
    if column.type == "text":
        return "string"
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int} or column.type == "whole":
        return _whole_type([value for value in values if isinstance(value, int)])
    if kinds and kinds <= {int, float}:
        ints = [value for value in values if isinstance(value, int)]
        return "double" if all(abs(value) <= _EXACT_IN_A_FLOAT for value in ints) else "string"
    return "string"


def _whole_type(values: list[int]) -> ParquetType:
    low, high = min(values, default=0), max(values, default=0)
    if low >= -(2**63) and high < 2**63:
        return "int64"
    return "uint64" if low >= 0 and high < 2**64 else "string"


def write_groups(
    names: Sequence[str], types: Sequence[ParquetType], groups: Iterable[Sequence[Sequence[Any]]]
) -> bytes:
    """A Parquet file of row groups; each group is a list of columns."""
    import pyarrow
    import pyarrow.parquet

    schema = _schema(names, types)
    buffer = io.BytesIO()
    texts = [field.name for field, kind in zip(schema, types, strict=True) if kind == "string"]
    with pyarrow.parquet.ParquetWriter(buffer, schema, compression="zstd", use_dictionary=texts) as writer:
        for columns in groups:
            arrays = [_array(values, kind) for values, kind in zip(columns, types, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    return buffer.getvalue()


def _array(values: Sequence[Any], kind: ParquetType) -> pyarrow.Array:
    """The values as an Arrow array, made of its buffers: `pyarrow.array` imports pandas, which takes long."""
    import pyarrow

    validity = None if None not in values else pyarrow.py_buffer(_bits([value is not None for value in values]))
    data = [pyarrow.py_buffer(content) for content in _buffers(values, kind)]
    return pyarrow.Array.from_buffers(pyarrow.type_for_alias(kind), len(values), [validity, *data])


def _buffers(values: Sequence[Any], kind: ParquetType) -> list[bytes | array[Any]]:
    """The buffers behind the validity bits; a missing value takes the place of a zero or an empty text."""
    match kind:
        case "string":
            texts = [value if type(value) is str else exact(value) for value in values]
            encoded: Sequence[str | bytes] = texts
            if not (joined := "".join(texts)).isascii():
                encoded = [text.encode("utf-8", "backslashreplace") for text in texts]
            ends = array("i", accumulate(map(len, encoded), initial=0))
            return [ends, joined.encode("utf-8", "backslashreplace")]
        case "bool":
            return [_bits(values)]
        case "double":
            return [array("d", _filled(values))]
        case "int64":
            return [array("q", _filled(values))]
        case "uint64":
            return [array("Q", _filled(values))]
        case _:
            assert_never(kind)


def _filled(values: Sequence[Any]) -> Sequence[Any]:
    return [0 if value is None else value for value in values] if None in values else values


def _bits(values: Sequence[Any]) -> bytes:
    """One bit a value, set where it is true; Arrow counts bits and bytes from the low end."""
    digits = "".join("1" if value else "0" for value in reversed(values))
    return int(digits or "0", 2).to_bytes((len(values) + 7) // 8, "little")


def _schema(names: Sequence[str], types: Sequence[ParquetType]) -> pyarrow.Schema:
    import pyarrow

    names = [encodable(name) for name in names]
    described = [
        {
            "name": name,
            "field_name": name,
            "pandas_type": _PANDAS_TYPES[kind][0],
            "numpy_type": _PANDAS_TYPES[kind][1],
            "metadata": None,
        }
        for name, kind in zip(names, types, strict=True)
    ]
    # The oldest pandas that reads these types; the one installed here is not named, or the bytes would depend on it.
    note = {"index_columns": [], "column_indexes": [], "columns": described, "pandas_version": "2.1.0"}
    fields = [(name, pyarrow.type_for_alias(kind)) for name, kind in zip(names, types, strict=True)]
    return pyarrow.schema(fields, metadata={"pandas": json.dumps(note)})
