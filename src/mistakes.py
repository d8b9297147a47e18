"""What is wrong with a params file, a line for each mistake: key, value, what is allowed, the nearest known name."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from src.losses import LOSSES
from src.metrics import IDEALS, METRICS, PROBABILISTIC, better, of_task

# train params that say what is best, where to train, and what to keep
NOT_TUNED = (
    "train.monitor",
    "train.checkpoint_seconds",
    "train.checkpoints_kept",
    "train.checkpoints_days",
    "train.checkpoints_gb",
    "train.device",
    "train.resident_gb",
    "train.deterministic",
    "train.cuda_graph",
    "train.fail_on_wait",
)
DEVICES = "auto, cpu, mps, cuda, cuda:N"


def one_of(names: list[str], value: str) -> str:
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}{nearest(value, names)}")
    return value


def nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f". Did you mean {close[0]}?" if close else ""


def line(detail: Any, known: list[str], of_range: list[str]) -> str:
    """One pydantic error as one line: key, value, what is allowed.

    known: every key; of_range: the keys of a range in tune.space.
    """
    place = [part for part in detail["loc"] if not re.fullmatch("<.*>", str(part))]  # without the tags of unions
    key = ".".join(map(str, place))
    if detail["type"] == "extra_forbidden":
        if key.startswith("tune.space."):
            known = [".".join([*map(str, place[:-1]), name]) for name in of_range]
        # the right name in the wrong section is nearer than any other
        same = next((name for name in known if name.endswith(f".{place[-1]}")), None)
        return f"{key} is not a known param" + (f". Did you mean {same}?" if same else nearest(key, known))
    if detail["type"] == "missing":
        return f"{key} is missing"
    wanted = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    wanted = re.sub("valid dictionary.*", "mapping", wanted)
    if detail["type"] == "string_pattern_mismatch":
        wanted = f"must be one of {DEVICES}"
    return f"{key} = {detail['input']!r}: {wanted}"


def disagreements(params: Any, known: list[str]) -> Iterator[str]:
    """What no field of checked params can see alone: sums, and names that do not fit the task. known: every key."""
    fractions = params.prepare.fractions
    total = fractions.train + fractions.val + fractions.test
    if abs(total - 1) > 1e-6:
        yield (
            f"prepare.fractions: train {fractions.train} + val {fractions.val} + test {fractions.test} "
            f"= {total:g}; they must sum to 1"
        )
    by_column = params.prepare.split in ("group", "time", "hash", "given")
    if by_column != (params.prepare.split_column is not None):
        state = "needs a column: set" if by_column else "uses no column: unset"
        yield f"prepare.split = '{params.prepare.split}' {state} prepare.split_column"
    shaping = [key for key in known if key.startswith(("model.", "train."))]  # another split is another problem
    for name in params.tune.space:
        if name not in shaping:
            yield f"tune.space.{name} is no model or train param{nearest(name, shaping)}"
        elif name in NOT_TUNED:
            yield f"tune.space.{name} is not to be tuned: it does not make a model better or worse"
    if params.train.warmup_epochs >= params.train.epochs and params.train.schedule == "cosine":
        yield (
            f"train.warmup_epochs = {params.train.warmup_epochs:g} must be below train.epochs = {params.train.epochs}"
        )
    if params.task != "auto":  # else it is known once the data is prepared
        yield from _misfits(params)


def _misfits(params: Any) -> Iterator[str]:
    """Names that do not fit the task."""
    metrics = of_task(params.task)
    fitting = [name for name, loss in LOSSES.items() if params.task in loss.tasks]
    if params.loss not in fitting:
        yield f"train.loss = '{params.train.loss}' does not fit task {params.task}: use auto, {', '.join(fitting)}"
    if params.train.class_weights != "none" and params.task not in PROBABILISTIC:
        yield f"train.class_weights: task {params.task} has no classes; set it to none"
    if params.task != "binary":
        for name, unset in (("pos_weight", None), ("threshold", 0.5)):
            if getattr(params.train, name) != unset:
                yield f"train.{name} is for task binary, and the task is {params.task}: set it to {unset or 'null'}"
    elif params.train.pos_weight is not None and params.train.class_weights != "none":
        yield "train.pos_weight and train.class_weights both weigh the classes: set one of them"
    if params.train.monitor not in metrics:
        yield f"train.monitor = '{params.train.monitor}' is no metric of {params.task}: use {', '.join(metrics)}"
    for name, bound in params.validate_.minimum.items():
        if name not in metrics:
            yield f"validate.minimum.{name} is no metric of {params.task}: use {', '.join(metrics)}"
        elif better(name, bound, ideal := IDEALS[METRICS[name].goal]):
            yield f"validate.minimum.{name} = {bound:g} is met by no model: the best there can be is {ideal:g}"
