"""A study that begins with what earlier ones found: their trials, as far as these are trials of the new one too."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src.fingerprint import Fingerprint
from src.params import Params
from src.tune import objectives, space

ORIGIN = "taken_from"  # attribute of a trial that another study has made
TERMS = "terms"  # attribute of a study: what its trials share


def sign(study: Study, params: Params, mark: Fingerprint) -> None:
    """Write into a new study what its trials share, so that later ones can tell which of them fit."""
    study.set_user_attr(TERMS, terms(params, mark))


def terms(params: Params, mark: Fingerprint) -> dict[str, Any]:
    return {
        **asdict(mark),
        **params.tune.model_dump(include={"objectives", "seeds"}),
        "step": objectives.step(params),
    }


def take_over(study: Study, params: Params, mark: Fingerprint) -> str:
    """Add to a new study the completed and pruned trials of others in its storage that had the same data, code,
    objectives and seeds, and whose params are in the new space where it has them, and the same where it has not; how
    many there were, in words."""
    own, found, others = terms(params, mark), dict[str, int](), 0
    have = {trial.user_attrs.get(ORIGIN) for trial in study.get_trials(deepcopy=False)}
    for name in optuna.get_all_study_names(study._storage):
        other = optuna.load_study(study_name=name, storage=study._storage)
        theirs = other.user_attrs.get(TERMS)
        if name == study.study_name or theirs is None or any(own[key] != theirs[key] for key in own if key != "params"):
            continue
        for trial in other.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            origin = f"{name}, trial {trial.number}"
            if ORIGIN in trial.user_attrs or origin in have:
                continue
            taken = _translated(trial, theirs["params"] | trial.user_attrs["values"], params, own["params"], origin)
            if taken is None:
                others += 1
            else:
                study.add_trial(taken)
                found[name] = found.get(name, 0) + 1
    if not found:
        return f"--warm-start: no study has trials that fit this space, data, code and params; {others} do not"
    taken_over = ", ".join(f"{count} trials of {name}" for name, count in found.items())
    return f"--warm-start: taken over {taken_over}; {others} do not fit"


def _translated(
    trial: FrozenTrial, had: dict[str, Any], params: Params, now: dict[str, Any], origin: str
) -> FrozenTrial | None:
    """A trial of another study as one of this; None where it is none."""
    values: dict[str, Any] = {}
    for key in space.ordered(params):
        if space.is_met(params.tune.space[key], values):
            if key not in had or not space.is_in(had[key], params.tune.space[key]):
                return None
            values[key] = had[key]
    fixed = [{key: value for key, value in flat.items() if key not in values} for flat in (had, now)]
    if fixed[0] != fixed[1]:
        return None
    return optuna.trial.create_trial(
        state=trial.state,
        params={key: space.stored(value, params.tune.space[key]) for key, value in values.items()},
        distributions={key: space.distribution(key, params.tune.space[key]) for key in values},
        values=trial.values,
        intermediate_values=trial.intermediate_values,
        user_attrs={**trial.user_attrs, "values": values, ORIGIN: origin},
    )
