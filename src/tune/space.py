"""The search space: which params, from where to where. Every bound and choice is checked as a value of its param."""

from collections.abc import Hashable
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from src.errors import InputError
from src.params import Params, changed, fields
from src.sections import Range

if TYPE_CHECKING:
    from optuna import Trial


def check(params: Params) -> None:
    """InputError for a space that is empty, or has a bound or choice that its param cannot take."""
    space = params.tune.space
    if not space:
        raise InputError("tune.space is empty: name a param, such as train.lr: {low: 1e-4, high: 0.3, log: true}")
    for key, values in space.items():
        if isinstance(values, Range):
            _check_range(key, values)
        elif not values:
            raise InputError(f"tune.space: {key} has no choices")
        for value in _edges(key, values):
            try:
                changed(params, {key: value})
            except InputError as error:
                raise InputError(f"tune.space: {str(error).splitlines()[-1].strip()}") from None


def suggest(trial: "Trial", params: Params) -> dict[str, Any]:
    """The values of one trial, by dotted name."""
    values: dict[str, Any] = {}
    for key, allowed in params.tune.space.items():
        if not isinstance(allowed, Range):
            values[key] = trial.suggest_categorical(key, allowed)
        elif _is_whole(key):
            values[key] = trial.suggest_int(key, int(allowed.low), int(allowed.high), log=allowed.log)
        else:
            values[key] = _rounded(trial.suggest_float(key, allowed.low, allowed.high, log=allowed.log), allowed)
    return values


def current(params: Params) -> dict[str, Any] | None:
    """The values that params.yaml has now, or None when one of them lies outside the space."""
    flat = params.flat()
    values = {key: flat[key] for key in params.tune.space}
    inside = all(_is_in(values[key], allowed) for key, allowed in params.tune.space.items())
    return values if inside and None not in values.values() else None


def _is_in(value: Any, allowed: Range | list[Any]) -> bool:
    if isinstance(allowed, Range):
        return isinstance(value, int | float) and allowed.low <= value <= allowed.high
    return value in allowed


def _check_range(key: str, values: Range) -> None:
    if values.low >= values.high:
        raise InputError(f"tune.space: {key}: low {values.low:g} must be below high {values.high:g}")
    if values.log and values.low <= 0:
        raise InputError(f"tune.space: {key}: a logarithmic scale needs low above 0, not {values.low:g}")
    if not {int, float} & _kinds(dict(fields())[key].annotation):
        raise InputError(f"tune.space: {key} is no number: give a list of choices")


def _rounded(value: float, allowed: Range) -> float:
    # four digits are more than a search can tell apart, and are what a person wants to see in params.yaml
    return min(max(float(f"{value:.4g}"), allowed.low), allowed.high)


def _edges(key: str, values: Range | list[Any]) -> list[Any]:
    if not isinstance(values, Range):
        return values
    return [int(values.low), int(values.high)] if _is_whole(key) else [values.low, values.high]


def _is_whole(key: str) -> bool:
    return int in _kinds(dict(fields())[key].annotation)


def _kinds(annotation: Any) -> set[type]:
    """The types that a param may have: int and NoneType for int | None."""
    if get_origin(annotation) not in (Annotated, Union, UnionType):
        return {annotation}
    return {kind for argument in get_args(annotation) if isinstance(argument, Hashable) for kind in _kinds(argument)}
