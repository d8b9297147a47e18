"""CSV files as people have them: delimiter, encoding, decimal sign and compression are found out."""

import csv as standard
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from src.errors import InputError

COMPRESSED = (".gz", ".bz2", ".zst")
HEAD = 1 << 16  # bytes that are looked at to find out how the file is written
DELIMITERS = ",;\t|"
# what pandas takes for missing too; `prepare.missing` adds to it
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "#N/A", "None", "<NA>")


class Dialect(NamedTuple):
    encoding: str
    delimiter: str
    decimal: str


def read(path: Path, missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table in a CSV file with a header line, and notes for the user. InputError with the line that is wrong."""
    head = _head(path)
    dialect, notes = sniff(head, path)
    _check_header(head, dialect, path)
    table = _parse(path, dialect, missing)
    if any(str(field.type) == "binary" for field in table.schema):  # bytes that are no UTF-8, beyond the head
        dialect = dialect._replace(encoding="cp1252")
        notes = [_not_utf8(path)]
        table = _parse(path, dialect, missing)
    frame = table.to_pandas()
    for name in frame.select_dtypes("str"):
        if len(frame) and str(frame[name].iloc[-1]).endswith("\n"):
            raise InputError(f"{path} ends inside a quoted value of column '{name}': a quote is missing, or the end is")
    return frame, notes


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


def _check_header(head: bytes, dialect: Dialect, path: Path) -> None:
    text = head.decode(dialect.encoding, errors="replace").removeprefix("\ufeff")
    rows = standard.reader(io.StringIO(text, newline=None), delimiter=dialect.delimiter)
    names = next(row for row in rows if any(value.strip() for value in row))
    if all(re.fullmatch(r"[-+]?\d+([.,]\d+)?([eE][-+]?\d+)?", name.strip()) for name in names):
        raise InputError(
            f"{path} has no header: its first line holds numbers only ({dialect.delimiter.join(names)[:60]}). "
            "Put a line with the names of the columns before it"
        )


def _parse(path: Path, dialect: Dialect, missing: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.csv

    def parse(threads: bool) -> Any:
        return pa.csv.read_csv(
            pa.input_stream(path, compression="detect"),
            pa.csv.ReadOptions(encoding=dialect.encoding, use_threads=threads),
            pa.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
            pa.csv.ConvertOptions(
                null_values=[*MISSING, *missing], strings_can_be_null=True, decimal_point=dialect.decimal
            ),
        )

    try:
        return parse(threads=True)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {dialect.encoding} throughout ({error.reason}): save it as UTF-8") from None
    except (pa.ArrowException, OSError):
        # one thread is slower, and knows the line
        try:
            return parse(threads=False)
        except (pa.ArrowException, OSError) as error:
            reason = re.sub(r"^CSV parse error: Row #(\d+): ", r"line \1: ", str(error).strip().splitlines()[0])
            raise InputError(f"{path} is not a well-formed CSV file: {reason[:200]}") from None


def _head(path: Path) -> bytes:
    import pyarrow as pa

    try:
        with pa.input_stream(path, compression="detect") as stream:
            return bytes(stream.read(HEAD))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from None


def _not_utf8(path: Path) -> str:
    return f"{path} is not UTF-8 and was read as cp1252 (Western European). If names look wrong, save it as UTF-8"
