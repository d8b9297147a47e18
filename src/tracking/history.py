"""The durable history of a training: a JSON line an epoch, and the losses of its steps. On disk before anyone knows."""

import base64
import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from src import files
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
        wanted = b"".join(map(files.sealed_line, records))
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


class Steps:
    """`steps.jsonl` beside the history: the losses of all steps, a line an epoch: `epoch`, `time`, and `losses`, base64
    of little-endian float32. A line is there before the checkpoint of its epoch is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "steps.jsonl"
        self._journal = Journal(self.path)

    def append(self, epoch: int, losses: np.ndarray) -> None:
        """losses: [steps of the epoch]."""
        text = base64.b64encode(losses.astype("<f4").tobytes()).decode()
        self._journal.append({"epoch": epoch, "time": time.time(), "losses": text})

    def read(self, offset: int = 0) -> tuple[list[Record], int]:
        """As History.read, with `losses` float32 [steps] in each record."""
        records, end = self._journal.read(offset)
        return [record | {"losses": unpacked(record["losses"])} for record in records], end

    def restore(self, epochs: int, say: Callable[[str], None]) -> None:
        """Leave the lines of the first so many epochs; says so when some of them are damaged or gone."""
        self._journal.mend()
        self._journal.salvage()
        kept = {record["epoch"]: record for record in self._journal.read()[0] if record["epoch"] <= epochs}
        if len(kept) < epochs:
            say(f"{self.path} lacks the steps of {epochs - len(kept)} epochs: damaged, or removed; the epochs are kept")
        content = b"".join(map(files.sealed_line, kept.values()))
        if self.path.exists() and self.path.read_bytes() != content:
            files.write_bytes(self.path, content)


def unpacked(text: str) -> np.ndarray:
    """The losses in a line, float32 [steps]."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def points(record: Record, count: int) -> list[tuple[int, float]]:
    """The losses of an epoch as so many points of a curve, or fewer: the steps made until each, and the mean loss of
    those since the one before."""
    losses = record["losses"]
    parts = np.array_split(losses, min(count, len(losses))) if count else []
    ends = np.cumsum([len(part) for part in parts]) + (record["epoch"] - 1) * len(losses)
    return [(int(end), float(part.mean(dtype=np.float64))) for end, part in zip(ends, parts, strict=True)]
