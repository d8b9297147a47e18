"""The params of the pipeline: read from params.yaml, checked, changed. Nothing here imports torch.

`params.yaml` holds the values; one section a stage, plus `seed`, `task`, `model`, `tracking` and `tune`; every section
is defined in src/sections.py. `python -m src.params_table` prints them as Markdown.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from src import paths
from src.errors import InputError
from src.losses import DEFAULT_LOSS
from src.mistakes import disagreements, line
from src.sections import Model, Prepare, Range, Section, Task, Tracking, Train, Tune, Validate


class Params(Section):
    seed: int = Field(0, ge=0, lt=2**32, description="splits, first weights, batch order, dropout")
    task: Task = Field("classification", description="what is learned; decides loss and metrics. auto: by the target")
    prepare: Prepare = Field(default_factory=Prepare)
    model: Model = Field(default_factory=Model)
    train: Train = Field(default_factory=Train)
    validate_: Validate = Field(default_factory=Validate, alias="validate")
    tracking: Tracking = Field(default_factory=Tracking)
    tune: Tune = Field(default_factory=Tune)

    @property
    def loss(self) -> str:
        """The loss in use: train.loss, or the task's own."""
        return DEFAULT_LOSS[self.task] if self.train.loss == "auto" else self.train.loss

    def flat(self) -> dict[str, Any]:
        """Every param under its dotted name."""
        return flatten(self.model_dump(by_alias=True))


def load(path: Path = paths.PARAMS) -> Params:
    """Read and check the params file. InputError names every wrong key, its value and what is allowed."""
    return check(read(path), str(path))


def read(path: Path) -> Any:
    """The raw mapping in a params file, with comments and order kept so that it can be written back."""
    from ruamel.yaml import YAML, YAMLError  # YAML 1.2: 1e-3 is a number

    try:
        return YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing. Run from the project's root, where params.yaml lies") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None


def check(values: Any, where: str = "params") -> Params:
    """Params from plain values (nested mappings), or InputError with one line a mistake."""
    if not isinstance(values, dict):
        raise InputError(f"{where} must be a mapping of sections such as `train:`, not {type(values).__name__}")
    return _checked(_plain(values), where)


def _checked(values: dict[str, Any], where: str = "params") -> Params:
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        known = [*KEYS, *Params().model_dump(by_alias=True)]
        lines = list(dict.fromkeys(line(detail, known, list(Range.model_fields)) for detail in error.errors()))
    else:
        lines = list(disagreements(params, list(KEYS)))
        if not lines:
            return params
    raise InputError("\n  ".join([f"{where} has {len(lines)} mistake{'s' * (len(lines) > 1)}:", *lines]))


def changed(params: Params, values: dict[str, Any]) -> Params:
    """`params` with some dotted keys set to other values, checked like a file."""
    nested = params.model_dump(by_alias=True)
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place[section]
        place[name] = _plain(value)
    return _checked(nested)


def settled(params: Params, task: str) -> Params:
    """`params` with the task that the prepared data has in place of "auto"; InputError for what does not fit it."""
    return changed(params, {"task": task}) if params.task == "auto" else params


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def fields(section: type[BaseModel] = Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, pydantic FieldInfo) of every param that holds a value."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, key + ".")
        else:
            yield key, field


KEYS = dict(fields())  # every param that holds a value, by its dotted name


def _plain(value: Any) -> Any:
    # ruamel's mappings and numbers are subclasses, which strict validation would refuse
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return value
