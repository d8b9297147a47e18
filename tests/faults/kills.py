"""Trainings that are really killed, go on, and must end as if nothing had happened: at random instants, and before and
after each thing that they make durable."""

import random
import re
from collections import Counter
from typing import NamedTuple

from tests.conftest import Project
from tests.faults.comparison import differences, has_checkpoint, missing_in_mlflow, outcome, standing
from tests.faults.processes import Stage
from tests.faults.trainings import Reference, Workshop, epochs_on_disk

RANDOM = ("wine", "cnn", "binary", "regression", "robust", "resnet")  # long enough to be hit within an epoch
BOUNDARIES = "short"
COLD = 0.15  # share of kills that hit the command as a user types it, and so its imports too
WARM = 0.15  # what start-up and end take of their time when the imports are done
START_UP, EPOCHS, END = "before its first new epoch", "between epochs", "after the last epoch"


class Verdict(NamedTuple):
    """What became of a training under faults: `wrong` and `untold` (what MLflow lacks) are empty when it survived."""

    name: str
    kills: int
    where: Counter[str]
    wrong: list[str]
    untold: list[str]


def random_kills(workshop: Workshop, seed: int, kills: int, training: str | None = None) -> Verdict:
    """Kill a training `kills` times at random, let it finish, compare. The seed picks the training too, if none is
    named; the instants are drawn from it, though what the process is doing then is up to the machine."""
    training = training or RANDOM[seed % len(RANDOM)]
    reference = workshop.reference(training)
    project = workshop.new(training, f"killed-{training}-{seed}")
    where, wrong = killed(project, reference, random.Random(seed), kills)
    wrong += finished(project, reference)
    return judged(
        workshop, project, Verdict(f"{training}, seed {seed}", where.total(), where, wrong, missing_in_mlflow(project))
    )


def killed(project: Project, reference: Reference, draw: random.Random, kills: int) -> tuple[Counter[str], list[str]]:
    """SIGKILL one stage after another; where each was hit, and what was wrong with the checkpoints then.

    A third of them in their start-up, most between epochs, the rest near the end. A stage that is quicker than its
    kill ends, and counts for nothing.
    """
    where: Counter[str] = Counter()
    wrong: list[str] = []
    for left in range(kills, 0, -1):
        before, had = epochs_on_disk(project), has_checkpoint(project)
        cold = draw.random() < COLD
        target, seconds = instant(reference, draw, before, left, cold)
        stage = Stage(project, cold=cold)
        stage.wait_for(lambda least=target: epochs_on_disk(project) >= least, seconds)
        stage.kill(group=draw.random() < 0.5)
        if stage.code == -9:
            done = epochs_on_disk(project)
            where[END if done >= reference.epochs else EPOCHS if done > before else START_UP] += 1
        wrong += standing(project, had)
    return where, wrong


def instant(reference: Reference, draw: random.Random, before: int, left: int, cold: bool) -> tuple[int, float]:
    """When to kill next: so many seconds after so many epochs are on disk; `left` kills are to come, this included."""
    pace, to_do = reference.pace, reference.epochs - before
    start_up, end = (pace.before, pace.after) if cold else (pace.before * WARM, pace.after * WARM)
    where = draw.random()
    if where < 0.3 or not to_do:
        return before, draw.uniform(0, start_up if to_do else start_up + end)
    if where < 0.85:
        return before + draw.randint(1, max(1, 2 * to_do // (left + 1))), draw.uniform(0, 2 * pace.epoch)
    return reference.epochs, draw.uniform(0, end)


def finished(project: Project, reference: Reference) -> list[str]:
    """Run the stage to its end; in what it then differs from the training that nobody killed."""
    stage = Stage(project)
    if stage.wait() != 0:
        return [f"the stage ended with {stage.code}: {stage.said[-600:]}"]
    return differences(outcome(reference.project), outcome(project))


def judged(workshop: Workshop, project: Project, verdict: Verdict) -> Verdict:
    """The verdict; the project goes when it is not needed to find out what went wrong."""
    if not verdict.wrong and not verdict.untold:
        workshop.drop(project)
    return verdict


def boundaries(reference: Reference, what: str = "SIGKILL") -> list[str]:
    """A fault before and after each operation that the reference run passed, torn files among them, in its order."""
    faults, seen = [], Counter[str]()
    whole = {line.split()[2] for line in reference.boundaries if line.split()[1] == "link"}  # other names of files
    for line in reference.boundaries:
        process, operation, name = line.split()
        if ".gone/" in name:  # set aside by one rename before, which is among these
            continue
        seen[line] += 1
        is_written = operation == "fsync" and not name.endswith("/") and name not in whole
        moments = ("before", "torn", "after") if is_written else ("before", "after")
        faults += [f"{what} {moment} {operation} {name} #{seen[line]} in {process}" for moment in moments]
    return faults


def representative(faults: list[str], each_moment: bool = False) -> list[str]:
    """One fault for each kind of operation and file, taking the moments in turn, or for each moment too; numbers make
    no kind, nor do the names of files that are kept for MLflow."""
    kinds: dict[str, list[str]] = {}
    for fault in faults:
        what, moment, operation, name, *rest = fault.split()
        name = re.sub(r"/files/\d+/.*[^/]", "/files/N/*", name)
        kind = " ".join([what, moment if each_moment else "", operation, name, *rest])
        kinds.setdefault(re.sub(r"\d+", "N", kind), []).append(fault)
    return [alike[index % len(alike)] for index, alike in enumerate(kinds.values())]


def at_boundary(workshop: Workshop, fault: str) -> Verdict:
    """Kill a training there, let it finish, compare."""
    reference = workshop.reference(BOUNDARIES)
    project = workshop.new(BOUNDARIES, "boundary-" + re.sub(r"\W+", "-", fault))
    log = project.path / "passed"
    stage = Stage(project, fault, str(log))
    code = stage.wait()
    wrong = standing(project, had=False)
    if code not in (0, -9):  # 0: another process than the stage is the one to be killed
        wrong.append(f"the stage ended with {code}: {stage.said[-600:]}")
    wrong += finished(project, reference)
    untold = missing_in_mlflow(project)
    return judged(workshop, project, Verdict(fault, log.read_text().count(" SIGKILL "), Counter(), wrong, untold))


def chain(workshop: Workshop, faults: list[str]) -> Verdict:
    """Kill one training at all of these, one after the other, then let it finish: less work than `at_boundary`."""
    reference = workshop.reference(BOUNDARIES)
    project = workshop.new(BOUNDARIES, "chain")
    kills, wrong = 0, []
    for fault in faults:
        had = has_checkpoint(project)
        kills += Stage(project, fault).wait() == -9
        wrong += [f"{fault}: {word}" for word in standing(project, had)]
    wrong += finished(project, reference)
    return judged(
        workshop, project, Verdict("a chain of boundaries", kills, Counter(), wrong, missing_in_mlflow(project))
    )
