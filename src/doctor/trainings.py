"""What trainings keep: checkpoints, the history beside them, and what each is a training of."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from src import checkpoints, files, fingerprint, locks, paths, saving
from src.checkpoints import State
from src.doctor import leftovers
from src.doctor.finding import Finding, Mend, ok, wrong
from src.errors import InputError
from src.journal import Journal
from src.params import Params
from src.tracking.history import History, Steps


def checkpoints_are_good(_: Params) -> Iterator[Finding]:
    folders = sorted(path for path in paths.checkpoints().glob("*") if path.is_dir())
    good, count = 0, 0
    for folder in folders:
        process = locks.holder(folder / "lock")
        findings = [] if process else list(_training(folder))
        if process := process or locks.holder(folder / "lock"):  # one that began meanwhile changes what there is to see
            yield ok(f"{folder} is in use by process {process}: not looked at")
            continue
        yield from findings
        if not findings:
            good, count = good + 1, count + len(checkpoints.found(folder))
    if good or not folders:
        yield ok(f"{count}, of {good} training{'s' * (good > 1)}: each as its digest says" if folders else "none yet")


def _training(folder: Path) -> Iterator[Finding]:
    """What there is to say of one folder; nothing when all is well."""
    newest: State | None = None
    there = checkpoints.found(folder)
    for path in there:
        try:
            newest = checkpoints.read(path)
        except InputError as error:
            mend = partial(_set_aside, path)
            yield wrong(str(error), "sets it aside, and the one before it is used", _alone(folder, mend))
    aside = sorted(folder.glob("epoch-*.pt.damaged"))
    if newest is not None:
        yield from _usable(folder, newest, aside)
    elif there or aside:
        yield wrong(f"every checkpoint in {folder} is damaged", f"rm {folder}/epoch-*, and the training starts anew")
    yield from _history(folder, newest)
    yield from _steps(folder)
    yield from _mark(folder)
    for path in sorted(folder.glob(".*.partial")):  # nobody holds the folder, so nobody writes there
        yield wrong(f"{path} was left half-written", "removes it", _alone(folder, partial(leftovers.remove, path)))


def _usable(folder: Path, newest: State, aside: list[Path]) -> Iterator[Finding]:
    """Whether the training can go on from its newest good state."""
    if "best_epoch" in newest:
        try:
            saving.check_best(folder, newest)
        except InputError as error:
            yield wrong(f"the best checkpoint cannot be used: {error}", f"rm {folder}/epoch-*")
    if aside:
        yield ok(f"set aside as damaged, and not used: {', '.join(map(str, aside))}")


def _history(folder: Path, newest: State | None) -> Iterator[Finding]:
    """Whether every line of the history is as it was written; a checkpoint carries it whole."""
    path = History(folder).path
    lines, bad = _looked_through(path)
    kept = newest["epoch"] if newest is not None and "history" in newest else 0
    if not bad and len(lines) >= kept - 1:  # the last line comes after its checkpoint, and may not have come
        return
    is_whole = not bad or lines[bad - 1].endswith(b"\n")
    what = f"line {bad} of {len(lines)}: {'damaged' if is_whole else 'torn'}" if bad else f"only {len(lines)} of {kept}"
    said = f"{path}, {what}"
    if newest is not None and "history" in newest:
        mend = _alone(folder, partial(_restore, folder, newest))
        yield wrong(said, "writes it anew from the newest checkpoint", mend)
    else:
        mend = _alone(folder, partial(_cut, path, b"".join(lines[: bad - 1])))
        yield wrong(said, "ends it before that line, and keeps a copy", mend)


def _steps(folder: Path) -> Iterator[Finding]:
    """Whether every line of the steps' losses is as it was written; nothing else has them."""
    path = Steps(folder).path
    lines, bad = _looked_through(path)
    if bad:
        mend = _alone(folder, partial(_salvage, path))
        yield wrong(f"{path}, line {bad} of {len(lines)}: damaged", "leaves it out, and keeps a copy", mend)


def _looked_through(path: Path) -> tuple[list[bytes], int]:
    """The lines of a journal, and the number of the first that is no record, from 1; 0: all are."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return lines, next((number for number, line in enumerate(lines, 1) if not _is_record(line)), 0)


def _is_record(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and bool(files.unsealed_line(line))
    except ValueError:
        return False


def _mark(folder: Path) -> Iterator[Finding]:
    """fingerprint.json, by which a training says what changed since the last."""
    path = folder / paths.MARK
    if not path.exists():
        return
    try:
        fingerprint.Fingerprint(**files.read_sealed(path))
    except (InputError, TypeError):
        mend = partial(_set_aside, path)
        yield wrong(
            f"{path} is damaged: of what settings this training is, is not known", "sets it aside", _alone(folder, mend)
        )


def _alone(folder: Path, mend: Mend) -> Mend:
    """The same while the folder is held, so that no training begins there meanwhile."""

    def held() -> str:
        with locks.held(folder / "lock", "is training there"):
            return mend()

    return held


def _set_aside(path: Path) -> str:
    return f"Set aside as {files.set_aside(path).name}"


def _restore(folder: Path, state: State) -> str:
    History(folder).restore(saving.records(state), lambda _: None)
    return "Written anew"


def _salvage(path: Path) -> str:
    Journal(path).salvage()
    return f"What it was is in {path.name}.damaged"


def _cut(path: Path, kept: bytes) -> str:
    aside = files.set_aside(path)
    files.write_bytes(path, kept)
    return f"What it was is in {aside.name}"
