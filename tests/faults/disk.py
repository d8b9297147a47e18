"""A disk with no room left: a real one, a limit on the size of files, and the error planted at each fsync."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults.comparison import folder_of, has_checkpoint, standing
from tests.faults.kills import BOUNDARIES, boundaries, finished
from tests.faults.processes import STAGE, Stage
from tests.faults.trainings import Reference, Workshop

PAGES = 12 * 4096  # bytes for all the small files of a training's folder


class Full(NamedTuple):
    """What became of a training on a full disk. met: whether it was full when it was written to."""

    name: str
    met: bool
    wrong: list[str]


def checkpoint_size(reference: Reference) -> int:
    folder = folder_of(reference.project)
    assert folder
    return max(path.stat().st_size for path in folder.glob("epoch-*.pt"))


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """A file system of so many bytes on a folder, and a function that changes its size. OSError where none can be
    mounted: only root may, and not in every container."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        raise PermissionError(error.stderr.decode().strip()) from None
    try:
        yield lambda new: resize(folder, new)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def can_mount(folder: Path) -> bool:
    try:
        with mounted(folder, 4096):
            return True
    except OSError:
        return False


def full_disk(workshop: Workshop, checkpoints_that_fit: int = 1) -> Full:
    """Checkpoints on a real file system that has room for so many; then for all."""
    reference = workshop.reference(BOUNDARIES)
    project = workshop.new(BOUNDARIES, f"full-disk-{checkpoints_that_fit}")
    size = checkpoint_size(reference)
    room = int(size * (checkpoints_that_fit + 0.6)) + PAGES
    with mounted(project.path / "models/checkpoints", room) as resized:
        stage = Stage(project, cold=True)
        stage.wait()
        wrong = stopped_in_words(stage) + standing(project, had=False)
        if not has_checkpoint(project):
            wrong.append("no checkpoint was written before the disk was full")
        resized(20 * size)
        wrong += finished(project, reference)
    return Full(f"room for {checkpoints_that_fit} checkpoints", True, wrong)


def limited_files(workshop: Workshop) -> Full:
    """No file may become as large as a checkpoint, from the second one on; then any may."""
    reference = workshop.reference(BOUNDARIES)
    project = workshop.new(BOUNDARIES, "limited-files")
    Stage(project, f"SIGKILL after fsync models/checkpoints/*/history.jsonl in {STAGE}").wait()
    limit = int(0.7 * checkpoint_size(reference))
    stage = Stage(project, preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)))
    stage.wait()
    wrong = stopped_in_words(stage) + standing(project, had=True) + finished(project, reference)
    return Full("a limit on the size of files", True, wrong)


def planted(workshop: Workshop, fault: str) -> Full:
    """One fsync says that the disk is full; the next time there is room."""
    reference = workshop.reference(BOUNDARIES)
    project = workshop.new(BOUNDARIES, "planted-" + "-".join(fault.replace("/", "-").split()))
    log = project.path / "passed"
    stage = Stage(project, fault, str(log))
    stopped = stage.wait() != 0
    wrong = (stopped_in_words(stage) if stopped else []) + standing(project, had=False)
    wrong += finished(project, reference)
    met = " ENOSPC " in log.read_text()
    if not wrong:
        workshop.drop(project)
    return Full(fault, met, wrong)


def fsyncs(reference: Reference) -> list[str]:
    """The faults that make an fsync of the stage fail, each once."""
    found = boundaries(reference, "ENOSPC")
    return [fault for fault in found if fault.startswith("ENOSPC before fsync") and fault.endswith(f" in {STAGE}")]


def stopped_in_words(stage: Stage) -> list[str]:
    """What is wrong with how a stage has stopped: exit code 1, one message, no traceback."""
    errors, wrong = [line for line in stage.said.splitlines() if line.startswith("error: ")], []
    if stage.code != 1:
        wrong.append(f"the exit code is {stage.code}, not 1")
    if len(errors) != 1 or "Traceback" in stage.said:
        wrong.append(f"not one message without a traceback: {stage.said[-400:]}")
    return wrong
