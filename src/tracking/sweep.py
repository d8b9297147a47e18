"""A study in MLflow: one parent run, one child run a trial, which the outbox of the parent holds as one event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from src import fingerprint, paths
from src.data.schema import Schema
from src.journal import Record
from src.metrics import METRICS
from src.params import Params
from src.tracking import lineage, run
from src.tracking.run import Run

# pruned is KILLED to MLflow, as in its own Optuna integration; the tag says which it was
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}


class Trial(NamedTuple):
    """One finished trial: the values tried, state (complete, pruned, fail), its epochs and what they came to; best:
    that by which it is judged, if it came so far."""

    number: int
    values: dict[str, Any]
    state: str
    started: float
    records: list[Record]
    metrics: dict[str, float]
    best: float | None
    error: str | None


class Sweep:
    """The parent run of a study, and the way its trials get under it."""

    def __init__(self, parent: Run, study: str, params: Params, tags: dict[str, str]) -> None:
        self.run, self._study, self._tags = parent, study, tags
        self._is_whole = params.tracking.trial_epochs

    def log(self, trials: Sequence[Trial]) -> None:
        """Have MLflow told of finished trials: of each its values (the study has the other params), how it ended, and
        its epochs where they are wanted."""
        self.run.log_trials([self._told(trial) for trial in trials])

    def _told(self, trial: Trial) -> dict[str, Any]:
        tags = {"study": self._study, "state": trial.state, "trial": str(trial.number), **self._tags}
        tags |= {key: str(value) for key, value in trial.values.items() if isinstance(value, str)}
        tags |= {"error": trial.error} if trial.error else {}
        name = f"trial-{trial.number:03d}" + ("" if trial.state == "complete" else f"-{trial.state}")
        return {
            "key": f"{self.run.key}-{trial.number}",
            "name": name,
            "created": trial.started,
            "tags": tags,
            "params": {key: run.text(value) for key, value in trial.values.items()},
            "records": trial.records if self._is_whole else [],
            "metrics": trial.metrics,
            "status": STATUS[trial.state],
        }

    def conclude(self, result: dict[str, Any], words: str, written: list[Path], kept: list[Path]) -> None:
        """Put the outcome on the parent: best value and params, importance, the summary as its description; kept: the
        folders of the trials whose weights it has."""
        best = result["best"]
        keys = [f"best_val/{name}" if name in METRICS else name for name in result["objectives"]]
        self.run.log_metrics({**dict(zip(keys, best["values"], strict=True)), "trials": result["trials"]["total"]})
        self.run.log_metrics(result["importance"], "importance/")
        tags = {f"best.{key}": str(value) for key, value in best["params"].items()}
        self.run.set_tags({**tags, "mlflow.note.content": words.replace("\n", "  \n")})
        self.run.log_artifacts([paths.REPORTS / "tune.json"], "")
        self.run.log_artifacts(written, "study")
        for folder in kept:
            for path in sorted(folder.rglob("model.*")):
                self.run.log_artifacts([path], f"weights/{path.parent.relative_to(folder.parent)}")


@contextmanager
def begin(params: Params, study: str, schema: Schema) -> Iterator[Sweep]:
    """The parent run of `study`: the one it had before, or a new one; it is RUNNING inside `with`."""
    note = _note(study)
    tags = {**lineage.tags(), **run.terms(schema, fingerprint.of(params, schema))}
    facts = run.new(f"tune-{study}", {**tags, "study": study, "role": "study"}, params)
    parent = Run(facts | run.noted(note, facts), params.tracking)
    parent.write(note)
    with parent:
        yield Sweep(parent, study, params, tags)
    parent.write(note)


def _note(study: str) -> Path:
    return paths.root() / "models" / f"tune.{study}.run.json"
