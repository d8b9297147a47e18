"""The study: an Optuna study that survives its process, and that only trials on the same terms may join."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import cli, files, fingerprint, locks, metrics, paths
from src.data.schema import Schema
from src.errors import InputError
from src.params import Params
from src.tracking import store
from src.tune import space

SAMPLERS = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
PRUNERS = {
    "median": lambda epochs: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10)),
    "hyperband": lambda epochs: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs),
    "none": lambda epochs: optuna.pruners.NopPruner(),
}


@contextmanager
def opened(params: Params, schema: Schema) -> Iterator[Study]:
    """The study of these params and data, new or as it was left; its first trial is the current params.

    RunError while another process has the study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with locks.held(lock(), "is tuning in this project"):
        study = _load(params, name(params, schema))
        if not study.trials:
            _queue_current(study, params)
        yield study


def lock() -> Path:
    """Who searches holds this, whichever study it is."""
    return paths.root() / "models" / "tune.lock"


def requeue(study: Study, forget: Callable[[int], None]) -> None:
    """Queue trials again that were running when their process died; `forget` gets the number that each had."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        forget(trial.number)
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def name(params: Params, schema: Schema) -> str:
    """Data and task for people, then a digest of all terms: space, data, code, and every param that is not tuned."""
    terms = asdict(fingerprint.of(params, schema))
    terms["params"] = {key: value for key, value in terms["params"].items() if key not in params.tune.space}
    terms["space"] = params.tune.model_dump()["space"]
    digest = hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()
    return f"{schema.title}-{params.task}-{digest[:10]}"


def finished(study: Study) -> list[FrozenTrial]:
    """Trials that count: completed, pruned, or failed for a reason of their own (not because a process died)."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return [trial for trial in ended if trial.state != TrialState.FAIL or "error" in trial.user_attrs]


def ranking(study: Study) -> list[FrozenTrial]:
    """Completed trials, the best first."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def _load(params: Params, study_name: str) -> Study:
    goal = metrics.METRICS[params.train.monitor].goal
    try:
        study = optuna.create_study(
            study_name=study_name,
            storage=_storage(params.tune.storage),
            load_if_exists=True,
            direction="minimize" if goal == "minimise" else "maximize",
            pruner=PRUNERS[params.tune.pruner](params.train.epochs),
        )
        # a seed of its own for each call: one that goes on must not draw the same numbers again
        study.sampler = SAMPLERS[params.tune.sampler](params.seed + len(study.trials))
    except Exception as error:  # whatever a database driver or a broken journal raises
        raise InputError(store.redact(f"tune.storage = '{params.tune.storage}' cannot be used: {error}")) from error
    return study


def _storage(address: str) -> BaseStorage | str:
    if "://" in address:
        return address
    path = paths.root() / address
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        mend(path)
        check(path)
    else:
        unseal(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def seal(params: Params) -> None:
    """Note what the journal holds now, so that damage to it is noticed. What comes after is not sealed yet."""
    path = paths.root() / params.tune.storage
    if "://" not in params.tune.storage:
        content = path.read_bytes()
        files.write_sealed(_seal_of(path), {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})


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


def _queue_current(study: Study, params: Params) -> None:
    values = space.current(params)
    if values:
        study.enqueue_trial(values)
    else:
        cli.say("the current params lie outside tune.space, so no trial has them")
