"""The journal of a study: a file of JSON lines that Optuna reads and writes, held against damage."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from src import cli, files
from src.errors import InputError


class Journal(JournalFileBackend):
    """A journal with one writer. What is written is kept back until `flush`: Optuna has an fsync, and a lock, for each
    number that is reported, which takes as long as an epoch of a small training. Of the trials whose ids are `held`
    nothing is written: as long as they are, a search that is killed leaves them as they were before."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))
        self._path, self.held = path, set[int]()
        self._back: list[tuple[dict[str, Any], bool]] = []  # and whether it is of one that is held
        self._is_due = False  # whether some of them are to be written
        content = path.read_bytes()
        self._lines, self._bytes, self._digest = content.count(b"\n"), len(content), hashlib.sha256(content)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        if log_number_from < self._lines:
            yield from super().read_logs(log_number_from)
        for log, _ in self._back[max(log_number_from - self._lines, 0) :]:
            yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        for log in json.loads(json.dumps(logs)):  # as they will be when they are read
            is_held = log.get("trial_id") in self.held
            self._back.append((log, is_held))
            self._is_due |= not is_held

    def let_go(self, trials: Iterable[int]) -> None:
        """Hold these no longer, by their ids."""
        self.held.difference_update(trials)
        self._is_due = True

    def flush(self) -> None:
        """Write what was kept back, and note what the journal holds now, so that damage to it is noticed."""
        if not self._is_due:
            return
        kept = [is_held and log["trial_id"] in self.held for log, is_held in self._back]
        ready = [log for (log, _), is_kept in zip(self._back, kept, strict=True) if not is_kept]
        self._is_due = bool(ready)  # until they are written
        if not ready:
            return
        super().append_logs(ready)
        self._is_due = False
        self._lines += len(ready)
        self._back = [entry for entry, is_kept in zip(self._back, kept, strict=True) if is_kept]
        with self._path.open("rb") as file:
            file.seek(self._bytes)
            added = file.read()
        self._digest.update(added)
        self._bytes += len(added)
        files.write_sealed(_seal_of(self._path), {"bytes": self._bytes, "sha256": self._digest.hexdigest()})


def check(journal: Path) -> None:
    """InputError when the journal is not what it was when it was sealed."""
    was = sealed(journal)
    if was and hashlib.sha256(journal.read_bytes()[: was["bytes"]]).hexdigest() != was["sha256"]:
        raise InputError(
            f"{journal} is damaged: its SHA-256 is not that of {_seal_of(journal).name}. See: python -m src.doctor"
        )


def sealed(journal: Path) -> dict[str, Any] | None:
    """What was noted of the journal: bytes and sha256; None when nothing was. InputError when that is damaged."""
    return files.read_sealed(_seal_of(journal), "See: python -m src.doctor") if _seal_of(journal).exists() else None


def set_aside(journal: Path) -> None:
    """Take a damaged journal out of the way; the study begins anew."""
    unseal(journal)
    files.set_aside(journal)


def unseal(journal: Path) -> None:
    _seal_of(journal).unlink(missing_ok=True)


def _seal_of(journal: Path) -> Path:
    return journal.with_name(journal.name + ".seal.json")


def look(journal: Path) -> tuple[int, int, bool]:
    """(whole lines, number from 1 of the first of them that is no record or 0, whether a torn line follows them)."""
    whole, torn = _whole(journal)
    lines = whole.splitlines()
    return len(lines), next((number for number, line in enumerate(lines, 1) if not _is_record(line)), 0), bool(torn)


def mend(journal: Path) -> None:
    """Cut off a last line that a crash has torn: Optuna would write behind it, and could not read the journal again."""
    whole, torn = _whole(journal)
    if torn:
        cli.say(f"{journal}: the last line was torn by a crash, and is removed")
        files.write_bytes(journal, whole)
    json.loads(whole.splitlines()[-1] if whole else b"{}")


def cut(journal: Path, line: int) -> None:
    """End a journal before a damaged line, and keep all of it beside. Records behind it count trials from those before,
    so with the one line left out they would be taken for those of other trials."""
    content = journal.read_bytes()
    files.write_bytes(journal.with_name(journal.name + ".damaged"), content)
    unseal(journal)
    files.write_bytes(journal, b"".join(content.splitlines(keepends=True)[: line - 1]))


def _whole(journal: Path) -> tuple[bytes, bytes]:
    """The whole lines of a journal, and what a crash has left of the next one."""
    content = journal.read_bytes()
    end = content.rfind(b"\n") + 1
    return content[:end], content[end:]


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and "op_code" in record
