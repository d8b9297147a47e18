"""Every check, and how they are gone through: one that crashes is a finding, and the next goes on."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from src import params, paths
from src.doctor import cache, environment, leftovers, prepared, repository, runs, study, trainings
from src.doctor.finding import Check, Finding
from src.errors import InputError, RunError
from src.params import Params
from src.tracking import store


@dataclass(frozen=True)
class Result:
    """A finding of a check, and what became of it. `state`: ok, wrong or mended."""

    subject: str
    state: str
    said: str
    mendable: bool = False


def examine(fix: bool, checks: Mapping[str, Check]) -> Iterator[Result]:
    """Go through the checks, one result a finding; with `fix`, what can be mended is."""
    settings = _params()
    for subject, check in checks.items():
        try:
            for finding in check(settings):
                yield _result(subject, finding, fix)
        except (InputError, RunError, OSError) as error:
            yield Result(subject, "wrong", _short(str(error)))
        except Exception as error:
            yield Result(subject, "wrong", f"this check itself failed, which is a bug: {_in_words(error)}")


def _params() -> Params:
    """Those in params.yaml; where it cannot be read, which has a check of its own, the defaults."""
    try:
        return params.load()
    except (InputError, OSError):
        return Params()


def _result(subject: str, finding: Finding, fix: bool) -> Result:
    said = _short(finding.said)
    if not finding.wrong:
        return Result(subject, "ok", said)
    if not finding.mend:
        return Result(subject, "wrong", f"{said}. To mend it: {_short(finding.remedy)}")
    if not fix:
        return Result(subject, "wrong", f"{said}. --fix {_short(finding.remedy)}", mendable=True)
    try:
        return Result(subject, "mended", f"{said}. {_short(finding.mend())}")
    except Exception as error:  # a disk that is full, a process that took the lock meanwhile
        return Result(subject, "wrong", f"{said}. It could not be mended: {_in_words(error)}")


def _in_words(error: Exception) -> str:
    return _short(f"{type(error).__name__}: {error}")


def _short(said: str) -> str:
    """On one line, without passwords, and with paths from the project's root on, where the user is."""
    return store.redact(" ".join(said.split()).replace(f"{paths.root()}{os.sep}", ""))


CHECKS: dict[str, Check] = {
    "params": environment.params_file,
    "versions": environment.versions,
    "venv": environment.venv,
    "device": environment.device_in_use,
    "disk": environment.disk,
    "git": repository.git,
    "DVC": repository.pipeline,
    "DVC locks": repository.locks,
    "outs": cache.outs,
    "cache": cache.objects,
    "run-cache": cache.runs,
    "data": prepared.files_match,
    "checkpoints": trainings.checkpoints_are_good,
    "outbox": runs.told,
    "runs": runs.truthful,
    "curves": runs.whole,
    "tuning": study.storage,
    "leftovers": leftovers.partial_files,
}
