"""The search space: which params, from where to where, and on what condition. Every bound and choice is checked as a
value of its param."""

import json
import math
from collections.abc import Hashable
from graphlib import CycleError, TopologicalSorter
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from src.errors import InputError
from src.mistakes import nearest
from src.params import KEYS, Params, changed
from src.sections import Options, Range

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

MOST = 10_000  # combinations of a grid


def check(params: Params) -> None:
    """InputError for a space that is empty, has a bound or choice that its param cannot take, or a condition that
    cannot be met."""
    space = params.tune.space
    if not space:
        raise InputError("tune.space is empty: name a param, such as train.lr: {low: 1e-4, high: 0.3, log: true}")
    for key, allowed in space.items():
        if isinstance(allowed, Range):
            _check_range(key, allowed)
        elif not choices(allowed):
            raise InputError(f"tune.space: {key} has no choices")
        for value in _edges(key, allowed):
            try:
                changed(params, {key: value})
            except InputError as error:
                raise InputError(f"tune.space: {str(error).splitlines()[-1].strip()}") from None
        for other, values in when(allowed).items():
            _check_condition(params, key, other, values)
    ordered(params)
    if params.tune.sampler == "grid":
        grid(params)


def suggest(trial: "Trial", params: Params) -> dict[str, Any]:
    """The values of one trial, by dotted name; those whose condition is not met are left out."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    values: dict[str, Any] = {}
    for key in ordered(params):
        allowed = params.tune.space[key]
        if not is_met(allowed, values):
            continue
        among = distribution(key, allowed)
        if isinstance(among, CategoricalDistribution):
            drawn = trial.suggest_categorical(key, among.choices)
            values[key] = choices(allowed)[among.choices.index(drawn)]
        elif isinstance(among, IntDistribution):
            values[key] = trial.suggest_int(key, among.low, among.high, step=among.step, log=among.log)
        else:
            drawn = trial.suggest_float(key, among.low, among.high, step=among.step, log=among.log)
            values[key] = drawn if among.step else _rounded(drawn, among)
    return values


def distribution(key: str, allowed: Any) -> "CategoricalDistribution | IntDistribution | FloatDistribution":
    """What Optuna calls that among which the values of a param are chosen."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(allowed, Range):
        return CategoricalDistribution([stored(choice, allowed) for choice in choices(allowed)])
    if _is_whole(key):
        return IntDistribution(int(allowed.low), int(allowed.high), log=allowed.log, step=int(allowed.step or 1))
    return FloatDistribution(allowed.low, allowed.high, log=allowed.log, step=allowed.step)


def current(params: Params) -> dict[str, Any] | None:
    """The values that params.yaml has now, or None when one of them lies outside the space."""
    flat, values = params.flat(), dict[str, Any]()
    for key in ordered(params):
        allowed = params.tune.space[key]
        if is_met(allowed, values):
            if not is_in(flat.get(key), allowed):  # there is none of a mapping, which no choice can be
                return None
            values[key] = flat[key]
    return values


def grid(params: Params) -> dict[str, list[Any]]:
    """The values of each param of which a grid tries every combination, as Optuna keeps them. InputError where they
    are no finite number."""
    values = {}
    for key, allowed in params.tune.space.items():
        if when(allowed):
            raise InputError(f"tune.space: {key} has a condition, and tune.sampler grid tries every combination")
        if not isinstance(allowed, Range):
            values[key] = [stored(choice, allowed) for choice in choices(allowed)]
        elif allowed.log or (allowed.step is None and not _is_whole(key)):
            raise InputError(f"tune.space: {key}: for tune.sampler grid give a step, or a list of choices")
        else:
            step = allowed.step or 1
            count = int((allowed.high - allowed.low) / step + 1e-9) + 1
            number = int if _is_whole(key) else float
            values[key] = [number(allowed.low + place * step) for place in range(count)]
    if (size := math.prod(map(len, values.values()))) > MOST:
        raise InputError(f"tune.space has {size:,} combinations, and tune.sampler grid takes {MOST:,} at most")
    return values


def when(allowed: Any) -> dict[str, list[Any]]:
    """The condition on a param: other params of the space, and the values of each that meet it."""
    found = {} if isinstance(allowed, list) else allowed.when
    return {key: values if isinstance(values, list) else [values] for key, values in found.items()}


def stored(value: Any, allowed: Any) -> Any:
    """A value as Optuna keeps it. It has no lists: those are text, of the choice as it is written."""
    if isinstance(allowed, Range):
        return value
    choice = choices(allowed)[choices(allowed).index(value)]
    return json.dumps(choice) if isinstance(choice, list) else choice


def choices(allowed: Any) -> list[Any]:
    return allowed.choices if isinstance(allowed, Options) else allowed


def ordered(params: Params) -> list[str]:
    """The params, those that others depend on first. InputError for conditions that go round in a circle."""
    graph = {key: list(when(allowed)) for key, allowed in params.tune.space.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise InputError(f"tune.space: the conditions go round in a circle: {' → '.join(error.args[1])}") from None


def is_met(allowed: Any, values: dict[str, Any]) -> bool:
    """Whether the values chosen so far meet the condition on a param."""
    return all(key in values and values[key] in wanted for key, wanted in when(allowed).items())


def _check_condition(params: Params, key: str, other: str, values: list[Any]) -> None:
    space = params.tune.space
    if other not in space:
        raise InputError(
            f"tune.space: {key}: its condition names {other}, which is not tuned{nearest(other, list(space))}"
        )
    for value in values:
        if not is_in(value, space[other]):
            is_list = any(isinstance(choice, list) for choice in _edges(other, space[other]))
            raise InputError(
                f"tune.space: {key}: its condition is that {other} is {value}, which is never tried"
                + (f": a list is one of several in the condition, {[values]}" if is_list else "")
            )


def is_in(value: Any, allowed: Any) -> bool:
    """Whether a value of a param is among those that are tried."""
    if not isinstance(allowed, Range):
        return value in choices(allowed)
    if not isinstance(value, int | float) or not allowed.low <= value <= allowed.high:
        return False
    steps = (value - allowed.low) / allowed.step if allowed.step else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-8)


def _check_range(key: str, values: Range) -> None:
    if values.low >= values.high:
        raise InputError(f"tune.space: {key}: low {values.low:g} must be below high {values.high:g}")
    if values.log and values.low <= 0:
        raise InputError(f"tune.space: {key}: a logarithmic scale needs low above 0, not {values.low:g}")
    if not {int, float} & _kinds(KEYS[key].annotation):
        raise InputError(f"tune.space: {key} is no number: give a list of choices")
    if values.step is not None:
        _check_step(key, values, values.step)


def _check_step(key: str, values: Range, step: float) -> None:
    if values.log:
        raise InputError(f"tune.space: {key}: a logarithmic scale has no step: leave one of them out")
    if step > values.high - values.low:
        raise InputError(f"tune.space: {key}: step {step:g} is larger than the range {values.low:g} to {values.high:g}")
    if _is_whole(key) and step != int(step):
        raise InputError(f"tune.space: {key} is a whole number, and step {step:g} is none")


def _rounded(value: float, allowed: "FloatDistribution") -> float:
    # four digits are more than a search can tell apart, and are what a person wants to see in params.yaml
    return min(max(float(f"{value:.4g}"), allowed.low), allowed.high)


def _edges(key: str, allowed: Any) -> list[Any]:
    if not isinstance(allowed, Range):
        return choices(allowed)
    return [int(allowed.low), int(allowed.high)] if _is_whole(key) else [allowed.low, allowed.high]


def _is_whole(key: str) -> bool:
    return int in _kinds(KEYS[key].annotation)


def _kinds(annotation: Any) -> set[type]:
    """The types that a param may have: int and NoneType for int | None."""
    if get_origin(annotation) not in (Annotated, Union, UnionType):
        return {annotation}
    return {kind for argument in get_args(annotation) if isinstance(argument, Hashable) for kind in _kinds(argument)}
