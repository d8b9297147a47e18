"""A table in blocks of rows: what a source gives, and what preparation goes through as often as it must.

Nothing holds more than a few blocks, so memory does not grow with the file; `Frame` is for what is in memory anyhow.
"""

import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from src import cli
from src.errors import InputError

ROWS, CELLS = 131_072, 1 << 22  # of a block, at most
BLOCKS = 8  # of a file, at least
SPLIT = "split"  # the column that says how a source divides its rows itself

Item = TypeVar("Item")
Result = TypeVar("Result")


class Misfit(Exception):
    """Rows that are not of the types that those before them had: all must be read again, with wider ones."""

    def __init__(self, types: dict[str, Any]) -> None:
        self.types = types


class Table:
    """Rows under the names of their columns. A block's index holds the places of its rows in the source, from 0."""

    names: list[str]
    rows: int

    def blocks(self) -> Iterator[pd.DataFrame]:
        """All rows, in order, so many at a time as rows_of_block() says; each call starts anew."""
        raise NotImplementedError

    def each(self, function: Callable[[pd.DataFrame], Result], last: bool = False) -> Iterator[Result]:
        """function(block) of every block, in order, computed on all cores. last: nobody will ask for the rows again."""
        return in_order(function, self.blocks())

    def frame(self) -> pd.DataFrame:
        """The whole of it, for what fits in memory."""
        return pd.concat(list(self.blocks())) if self.rows else pd.DataFrame(columns=self.names)


class Frame(Table):
    """A table in memory."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.whole = frame.reset_index(drop=True)
        self.names, self.rows = [str(name) for name in frame.columns], len(frame)

    def blocks(self) -> Iterator[pd.DataFrame]:
        length = rows_of_block(len(self.names))
        for start in range(0, self.rows, length):
            yield self.whole.iloc[start : start + length].set_axis(self.names, axis=1)


class Spool(Table):
    """A table on disk, in files without names that end with the process: Arrow record batches of a block each.

    Words are kept as a dictionary a block, so that what is done with them is done once for each distinct one.
    parts: the source's rows, Arrow tables of one schema; missing: words that stand for a missing value.
    """

    def __init__(self, parts: Iterable[Any], missing: Sequence[str] = ()) -> None:
        import pyarrow as pa

        self.files: list[Any] = []
        self.rows, self.names = 0, list[str]()
        compacted = in_order(partial(_compact, missing=missing), _recut(parts))
        batches = cli.counted(compacted, "reading", lambda batch: int(batch.num_rows))
        blocks = 0
        for batch in batches:
            self.files.append(tempfile.TemporaryFile(dir="."))  # noqa: SIM115  it lives as long as the table
            with pa.ipc.new_stream(self.files[-1], batch.schema) as writer:
                # later files are larger: few are open, and each is a small part of the whole
                for own in chain([batch], islice(batches, max(BLOCKS, blocks // BLOCKS) - 1)):
                    writer.write_batch(own)
                    self.rows += own.num_rows
                    blocks += 1
            self.names = [str(name) for name in batch.schema.names]

    def blocks(self) -> Iterator[pd.DataFrame]:
        return map(self._block, self._batches())

    def each(self, function: Callable[[pd.DataFrame], Result], last: bool = False) -> Iterator[Result]:
        return in_order(lambda batch: function(self._block(batch)), self._batches(last))

    def _batches(self, last: bool = False) -> Iterator[tuple[int, Any]]:
        """(place of its first row, record batch) of each block. last: a file that was read is given back at once."""
        import pyarrow as pa

        start = 0
        for file in self.files:
            file.seek(0)
            for batch in pa.ipc.open_stream(file):
                yield start, batch
                start += batch.num_rows
            if last:
                file.close()

    def _block(self, numbered: tuple[int, Any]) -> pd.DataFrame:
        start, batch = numbered
        block = batch.to_pandas(date_as_object=False, split_blocks=True)
        block.index = pd.RangeIndex(start, start + len(block))
        block.columns = pd.Index(self.names)
        return block


def rows_of_block(columns: int) -> int:
    """It depends on the number of columns alone, so results do not depend on how the source came in pieces."""
    return max(min(ROWS, CELLS // max(columns, 1)), 1)


def widened(parts: Callable[[dict[str, Any]], Iterable[Any]], missing: Sequence[str] = ()) -> Spool:
    """The table of parts(types); read again with wider ones as often as its rows turn out not to fit."""
    types: dict[str, Any] = {}
    while True:
        try:
            return Spool(parts(types), missing)
        except Misfit as misfit:
            types = misfit.types


def unified(parts: Iterable[Any]) -> Iterator[Any]:
    """Arrow tables whose types differ as tables of the types that hold all, for a source that is not read again; on
    disk meanwhile."""
    import pyarrow as pa

    count, types = 0, dict[str, Any]()
    with tempfile.TemporaryFile(dir=".") as file:
        for part in parts:
            types |= {field.name: wider(types.get(field.name, field.type), field.type) for field in part.schema}
            with pa.ipc.new_stream(file, part.schema) as writer:
                writer.write_table(part)
            count += 1
        file.seek(0)
        for _ in range(count):
            yield pa.ipc.open_stream(file).read_all().cast(pa.schema(types.items()))


def wider(one: Any, other: Any) -> Any:
    """The Arrow type that holds the values of both, as inference over all of them would give it."""
    import pyarrow as pa

    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    kinds = (one, other)
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) for kind in kinds):
        return pa.float64()
    if all(pa.types.is_date(kind) or pa.types.is_timestamp(kind) for kind in kinds):
        return pa.timestamp("ns" if pa.timestamp("ns") in kinds else "s")
    if all(pa.types.is_nested(kind) for kind in kinds):
        schemas = [pa.schema({"": kind}) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    return pa.string()


def labelled(part: Any, split: str | None) -> Any:
    """An Arrow table with its split as one more column, where it has one."""
    import pyarrow as pa

    if split is None:
        return part
    return part.append_column(
        SPLIT, pa.DictionaryArray.from_arrays(pa.nulls(len(part), pa.int8()).fill_null(0), [split])
    )


def check_same(names: Sequence[str], others: Sequence[str], path: Path) -> None:
    """InputError when a file has other columns than the one before it."""
    different = sorted({*names} ^ {*others})
    if different:
        raise InputError(
            f"{path}: all files of a table need the same columns, and not all have {', '.join(different)[:200]}"
        )


def check_names(names: Sequence[str], path: Path) -> None:
    """InputError when two columns have the same name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path} has two columns of the name '{twice}': rename one")


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """function(item) of every item, in order, by a thread a core; only so many are under way."""
    threads = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        iterator = iter(items)
        try:
            for item in islice(iterator, threads + 1):
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(iterator, 1))
        finally:
            for future in waiting:
                future.cancel()


def _recut(parts: Iterable[Any]) -> Iterator[Any]:
    """Arrow tables of any length as tables of a block each, the last one shorter."""
    import pyarrow as pa

    kept: list[Any] = []
    for part in parts:
        kept.append(part)
        length = rows_of_block(part.num_columns)
        if sum(table.num_rows for table in kept) < length:
            continue
        whole = pa.concat_tables(kept)
        ends = range(length, whole.num_rows + 1, length)
        for end in ends:
            yield whole.slice(end - length, length)
        kept = [whole.slice(ends[-1])]
    if kept and sum(table.num_rows for table in kept):
        yield pa.concat_tables(kept)


def _compact(table: Any, missing: Sequence[str]) -> Any:
    """One record batch of types that pandas has a plain form of, words as dictionaries."""
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.float64(), safe=False)
        elif pa.types.is_duration(kind):
            column = pc.divide(column.cast(pa.duration("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
        elif pa.types.is_time(kind):
            column = column.cast(pa.string())
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            if missing:
                column = pc.if_else(pc.is_in(column, pa.array(missing, column.type)), None, column)
            column = column.cast(pa.string()).dictionary_encode()
        column = column.combine_chunks()
        arrays.append(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    return pa.record_batch(arrays, names=table.column_names)
