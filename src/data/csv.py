"""CSV files as people have them: delimiter, encoding, decimal sign and compression are found out."""

import codecs
import csv as standard
import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from src.data.table import Misfit, Spool, check_names, check_same, in_order, labelled, widened, wider
from src.errors import InputError

COMPRESSED = (".gz", ".bz2", ".zst")
HEAD = 1 << 16  # bytes that are looked at to find out how the file is written
CHUNK = 1 << 23  # bytes that are parsed at once
LONGEST = 1 << 26  # bytes of a row
COMMA = r"^(\s*[-+]?)(?:(\d+),(\d*)|,(\d+))((?:[eE][-+]?\d+)?\s*)$"  # a number with a decimal comma
DELIMITERS = ",;\t|"
# what pandas takes for missing too; `prepare.missing` adds to it
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "#N/A", "None", "<NA>")


class Dialect(NamedTuple):
    encoding: str
    delimiter: str
    decimal: str


class NotUtf8(Exception):
    """Bytes beyond the head of a file that are no UTF-8: it must be read again, in another encoding."""

    def __init__(self, path: Path) -> None:
        self.path = path


def read(paths: dict[Path, str | None], missing: list[str]) -> tuple[Spool, list[str]]:
    """The table in CSV files with a header line each, and notes for the user; with the split of each file that has one.
    InputError with the line that is wrong."""
    dialects, notes = {}, []
    for path in paths:
        head = _head(path)
        dialects[path], found = sniff(head, path)
        _check_header(head, dialects[path], path)
        notes += found
    while True:
        try:
            return widened(partial(_parts_of_all, paths, dialects, missing)), notes
        except NotUtf8 as found_late:
            path = found_late.path
            dialects[path] = dialects[path]._replace(encoding="cp1252")
            notes.append(_not_utf8(path))


def _parts_of_all(
    paths: dict[Path, str | None], dialects: dict[Path, Dialect], missing: list[str], types: dict[str, Any]
) -> Iterator[Any]:
    names: list[str] = []
    for path, split in paths.items():
        for table in parts(path, dialects[path], missing, types):
            names = names or table.column_names
            check_same(names, table.column_names, path)
            types = {field.name: field.type for field in table.schema}
            yield labelled(table.select(names), split)


def parts(path: Path, dialect: Dialect, missing: list[str], types: dict[str, Any]) -> Iterator[Any]:
    """The rows of the file as Arrow tables, a chunk of text each. `types`: of columns, where they are known; the first
    chunk says the others. Misfit when a later one has other types."""
    import pyarrow as pa

    parse = partial(_parse, path=path, dialect=dialect, missing=missing)
    chunks = _chunks(path, dialect.encoding)
    rows = 0
    try:
        table = parse(next(chunks, memoryview(b"")), types=types)
        check_names(table.column_names, path)
        yield table
        rows = 1 + table.num_rows  # and the header
        known = {field.name: field.type for field in table.schema}
        parsed = in_order(partial(parse, names=table.column_names, types=known), chunks)
        for table in parsed:
            yield table
            rows += table.num_rows
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {dialect.encoding} throughout ({error.reason}): save it as UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        line = re.sub(r"^CSV parse error: Row #(\d+): ", lambda found: f"line {rows + int(found[1])}: ", reason)
        raise InputError(f"{path} is not a well-formed CSV file: {line[:200]}") from None


def sniff(head: bytes, path: Path) -> tuple[Dialect, list[str]]:
    """How a file is written, from its first bytes. InputError when it is empty or is no text."""
    notes = []
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        encoding = "utf-8"
        try:
            head[: head.rfind(b"\n") + 1 or None].decode()
        except UnicodeDecodeError:
            encoding = "cp1252"
            notes.append(_not_utf8(path))
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    if "\0" in text:
        raise InputError(f"{path} is no text file: set prepare.format to what it is, or save it as CSV")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty")
    if len(head) == HEAD:
        lines = lines[:-1] or lines  # the last one may be cut
    delimiter = _delimiter(lines)
    return Dialect(encoding, delimiter, _decimal(lines, delimiter)), notes


def _delimiter(lines: list[str]) -> str:
    """The one that gives most columns, the same number in (nearly) every line."""
    best, widest = ",", 1
    for candidate in DELIMITERS:
        widths = [len(row) for row in standard.reader(lines[:200], delimiter=candidate)]
        usual = max(set(widths), key=widths.count)
        if widths[0] == usual > widest and widths.count(usual) >= 0.9 * len(widths):
            best, widest = candidate, usual
    return best


def _decimal(lines: list[str], delimiter: str) -> str:
    if delimiter == ",":
        return "."
    values = [value.strip() for row in standard.reader(lines[1:200], delimiter=delimiter) for value in row]
    commas = sum(bool(re.fullmatch(r"[-+]?\d+,\d+", value)) for value in values)
    points = sum(bool(re.fullmatch(r"[-+]?\d+\.\d+", value)) for value in values)
    return "," if commas > points else "."


def _check_end(table: Any, text: memoryview, path: Path) -> None:
    """InputError when the last value was never closed: the parser takes the end of the text for its end."""
    closed = bytes(text[-HEAD:]).rstrip().endswith(b'"')
    for name, column in zip(table.column_names, table.columns, strict=True):
        if len(column) and not closed and str(column[-1]).endswith("\n"):
            raise InputError(f"{path} ends inside a quoted value of column '{name}': a quote is missing, or the end is")


def _check_header(head: bytes, dialect: Dialect, path: Path) -> None:
    text = head.decode(dialect.encoding, errors="replace").removeprefix("\ufeff")
    rows = standard.reader(io.StringIO(text, newline=None), delimiter=dialect.delimiter)
    names = next((row for row in rows if any(value.strip() for value in row)), [])
    if names and all(re.fullmatch(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?", name.strip()) for name in names):
        raise InputError(
            f"{path} has no header: its first line holds numbers only ({dialect.delimiter.join(names)[:60]}). "
            "Put a line with the names of the columns before it"
        )


def _chunks(path: Path, encoding: str) -> Iterator[memoryview]:
    """The text of a file as UTF-8, in pieces that end where a row ends."""
    import pyarrow as pa

    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    kept = b""
    with pa.input_stream(path, compression="detect") as stream:
        while content := stream.read(CHUNK):
            kept += decoder.decode(content).encode() if decoder else content
            end = _end_of_row(kept)
            if not end and len(kept) > LONGEST:
                opening = kept[kept.find(b'"') :][:40].decode(errors="replace")
                raise InputError(f"{path} has a row of over {LONGEST >> 20} MB. Is a quote missing? See {opening!r}")
            if end:
                yield memoryview(kept)[:end]
                kept = kept[end:]
    kept += decoder.decode(b"", final=True).encode() if decoder else b""
    if kept.strip():
        yield memoryview(kept)


def _end_of_row(text: bytes) -> int:
    """Bytes up to the end of the last row that is surely whole; 0 for none."""
    end = text.rfind(b"\n") + 1
    if b'"' not in text:
        return end
    lines = text[:end].split(b"\n")[:-1]
    if all(line.count(b'"') % 2 == 0 for line in lines):
        return end
    # a value with line breaks in it, or a quote that is none: as a parser sees it, without its last row: it may go on
    reader = standard.reader(line.decode("latin-1") + "\n" for line in lines)
    before = last = 0
    for _ in reader:
        before, last = last, reader.line_num
    return sum(len(line) + 1 for line in lines[:before])


def _parse(
    text: memoryview,
    path: Path,
    dialect: Dialect,
    missing: list[str],
    types: dict[str, Any],
    names: list[str] | None = None,
) -> Any:
    """One chunk as an Arrow table. Misfit, with wider types, when its values are not of `types`."""
    import pyarrow as pa
    import pyarrow.csv

    def parse(types: dict[str, Any]) -> Any:
        return pa.csv.read_csv(
            pa.BufferReader(text),
            pa.csv.ReadOptions(column_names=names, use_threads=False),
            pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
            pa.csv.ConvertOptions(
                null_values=[*MISSING, *missing],
                strings_can_be_null=True,
                decimal_point=dialect.decimal,
                column_types=types,
            ),
        )

    try:
        table = parse(types)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
        found = parse({}).schema
        merged = {field.name: wider(types.get(field.name, field.type), field.type) for field in found}
        if merged == types:  # no one type holds both, as nanoseconds and the year 9999
            merged = {field.name: field.type if types[field.name] == field.type else pa.string() for field in found}
        if _has_bytes(found):
            raise NotUtf8(path) from None
        if merged == types:
            raise
        raise Misfit(merged) from None
    if _has_bytes(table.schema):
        raise NotUtf8(path)
    _check_end(table, text, path)
    return _with_points(table) if dialect.decimal == "," else table


def _with_points(table: Any) -> Any:
    """Numbers with a comma that stayed words, because others in their column are none (as "?"), with a point: a chunk
    does not show whether the column is one of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            words = table.column(place)
            points = pc.replace_substring_regex(words, COMMA, r"\1\2.\3\4\5")
            table = table.set_column(place, field, points)
    return table


def _has_bytes(schema: Any) -> bool:
    """Whether there are words that are no UTF-8."""
    import pyarrow as pa

    return any(pa.types.is_binary(field.type) for field in schema)


def _head(path: Path) -> bytes:
    import pyarrow as pa

    try:
        with pa.input_stream(path, compression="detect") as stream:
            return bytes(stream.read(HEAD))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from None


def _not_utf8(path: Path) -> str:
    return f"{path} is not UTF-8 and was read as cp1252 (Western European). If names look wrong, save it as UTF-8"
