"""Read a Parquet file, and tell beforehand how much memory that takes.

Mental model. Parquet writes a value that repeats once, and how often: two kilobytes may stand for a hundred million rows, whose
numbers and texts are then written out in memory, and end the process that reads them. A column of numbers takes its width a row,
which the file's head tells. A column of texts is read as a dictionary (each text once, an index a row), from which follows how
long all of them are together. What nests is read in pieces that are small whatever they hold.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: Bytes of a file above which several threads read it: starting them takes longer than reading a small one.
THREADED = 8 << 20
#: Bytes that are read without asking, and at a time where it is asked.
UNASKED, PIECE = 64 << 20, 64 << 20
#: Bytes of a cell beside its text: offset, and a share of what names its place.
_CELL = 8


def memory() -> int:
    """Return a quarter of this machine's memory, in bytes; 4 GB where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (ValueError, OSError, AttributeError):
        return 4 << 30


def frame_of(file: Path) -> "pd.DataFrame":
    """Read a Parquet file into a frame.

    pyarrow reads it: pandas' own reader loads pyarrow's data sets first. Raises what pyarrow raises.
    """
    import pyarrow.parquet as pq

    threads = _threads(file)
    frame: pd.DataFrame = pq.ParquetFile(file).read(use_threads=threads).to_pandas(use_threads=threads)
    return frame


def _threads(file: Path) -> bool:
    return file.stat().st_size > THREADED


def unpacked(file: Path, most: int) -> int:
    """Count the bytes that a Parquet file's columns take when they are written out; counting ends beyond ``most``.

    Raises what pyarrow raises for a file that is no Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file)
    schema, rows = opened.schema_arrow, opened.metadata.num_rows
    texts = [field.name for field in schema if _is_text(field.type)]
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    total = rows * sum(_width(field.type) for field in schema if field.name not in {*texts, *nested})
    if total > most:
        return int(total)
    packed = sum(opened.metadata.row_group(n).total_byte_size for n in range(opened.metadata.num_row_groups))
    if total + rows * (packed + _CELL) * len([*texts, *nested]) <= UNASKED:  # no value is longer than all of them
        return int(total + rows * packed)
    if texts:
        read = pq.ParquetFile(file, read_dictionary=texts)
        for batch in read.iter_batches(batch_size=1 << 16, columns=texts, use_threads=_threads(file)):
            total += sum(_written_out(column) for column in batch.columns)
            if total > most:
                return int(total)
    if nested:
        for batch in opened.iter_batches(
            batch_size=max(1, min(1 << 14, PIECE // max(1, packed))), columns=nested, use_threads=_threads(file)
        ):
            total += batch.nbytes
            if total > most:
                break
    return int(total)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_dictionary(kind)
    )


def _width(kind: Any) -> int:
    try:
        return max(8, kind.bit_width // 8)
    except ValueError:  # a type of no fixed width
        return _CELL


def _written_out(column: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    values = column.dictionary
    if not (_is_text(values.type) and len(values)):
        return int(len(column) * _CELL)
    lengths = pc.binary_length(values).cast("int64")
    found = pc.sum(lengths.take(column.indices.drop_null())).as_py()
    return int((found or 0) + len(column) * _CELL)
