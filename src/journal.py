"""An append-only file of JSON lines, each with its own digest. What was appended is on disk before anyone is told."""

import os
from pathlib import Path
from typing import Any

from src import files
from src.errors import InputError

Record = dict[str, Any]


class Journal:
    """A line that a crash has torn is no line: it is left out by `read`, and cut off by `mend`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *records: Record) -> None:
        """OSError when they cannot be written, and then the file is as it was."""
        is_new = not self.path.exists()
        with self.path.open("ab", buffering=0) as file:  # a buffer would be written after what failed is cut off
            start, left = file.seek(0, os.SEEK_END), b"".join(map(files.sealed_line, records))
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise
        if is_new:
            files.sync_folder(self.path.parent)

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """Whole records from a byte offset on, and the offset after them. InputError names a line that is damaged."""
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return [], offset
        records = []
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                records.append(files.unsealed_line(text))
            except ValueError as error:
                raise InputError(f"{self.path}, line {number} after byte {offset}, is damaged: {error}") from None
        return records, offset + len(whole) + len(newline)

    def mend(self) -> bool:
        """Cut off a torn last line: what is appended would else become a part of it. Whether there was one."""
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self.path, len(whole))
        return whole != content

    def salvage(self) -> None:
        """Leave out the lines that are damaged, and keep a copy of all beside."""
        good, content = [], self.path.read_bytes() if self.path.exists() else b""
        for text in content.splitlines(keepends=True):
            try:
                files.unsealed_line(text)
            except ValueError:
                continue
            good.append(text)
        if b"".join(good) != content:
            files.write_bytes(self.path.with_name(self.path.name + ".damaged"), content)  # first: none is lost between
            files.write_bytes(self.path, b"".join(good))
