"""The durable history of a training: one JSON line an epoch, on disk before anyone is told."""

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

from src import files, journal
from src.journal import Journal, Record

NAME = "history.jsonl"
TIMINGS = ("samples_per_second", "time")  # they differ from run to run, so they stay out of reports


class History:
    """`history.jsonl` in a training's checkpoint folder. A record holds `epoch`, the metrics by name, and `time`
    (seconds since 1970)."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._journal = Journal(self.path)

    def append(self, record: Record) -> None:
        """A record without a time gets the present one."""
        self._journal.append({**record, "time": record.get("time", time.time())})

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """Whole records from a byte offset on, and the offset after them. A line that a crash has torn, or that is
        being written, is left for the next call; InputError for one that is damaged."""
        return self._journal.read(offset)

    def restore(self, records: list[Record], say: Callable[[str], None]) -> None:
        """Make the file hold just these, which a checkpoint has kept; says so when it held anything else than a part
        of them, or more epochs."""
        wanted = b"".join(map(journal.line, records))
        had = self.path.read_bytes() if self.path.exists() else b""
        if had != wanted:
            if not wanted.startswith(had) and not had.startswith(wanted):
                say(f"{self.path} was damaged: written anew from the checkpoint")
            files.write_bytes(self.path, wanted)

    def write_csv(self, path: Path) -> None:
        """The same record as a table, timings aside: equal trainings give equal bytes."""
        rows = [{key: value for key, value in record.items() if key not in TIMINGS} for record in self.read()[0]]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        files.write_bytes(path, text.getvalue().encode())
