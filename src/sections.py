"""The sections of the params: name, type, default, bounds and meaning of every knob. Nothing here imports torch."""

import ast
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from src.losses import LOSSES
from src.metrics import METRICS
from src.mistakes import one_of
from src.optimizers import OPTIMIZERS, SCHEDULES

Task = Literal["auto", "classification", "binary", "regression", "robust_regression"]
Kind = Literal["numeric", "categorical", "boolean", "datetime", "text", "ignore"]


def _models() -> list[str]:
    """The keys of MODELS, read from the source text: importing the models would import torch."""
    tree = ast.parse(Path(__file__).with_name("models.py").read_text(encoding="utf-8"))
    registry = next(
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "MODELS"
    )
    return [ast.literal_eval(key) for key in registry.keys]  # type: ignore[union-attr]


def _name(names: list[str]) -> Any:
    return Annotated[str, AfterValidator(partial(one_of, names))]


class Section(BaseModel):
    # strict: YAML has types, so "0.1" in quotes or yes for a number is a mistake to report, not to convert
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# told apart by what is written, so that a mistake in one is not also reported as "not the other"
KindOrOrder = Annotated[
    Annotated[Kind, Tag("<kind>")] | Annotated[list[str], Field(min_length=2), Tag("<order>")],
    Discriminator(lambda value: "<order>" if isinstance(value, list) else "<kind>"),
]


Weights = Annotated[
    Annotated[Literal["none", "balanced"], Tag("<name>")]
    | Annotated[dict[str, Annotated[float, Field(gt=0, le=1e6)]], Tag("<weights>")],
    Discriminator(lambda value: "<weights>" if isinstance(value, dict) else "<name>"),
]


Threshold = Annotated[
    Annotated[Literal["accuracy", "balanced_accuracy", "f1"], Tag("<metric>")]
    | Annotated[float, Field(gt=0, lt=1), Tag("<probability>")],
    Discriminator(lambda value: "<metric>" if isinstance(value, str) else "<probability>"),
]


def _auto(value: Any) -> Any:
    if value != "auto":
        raise ValueError("must be auto, or a whole number from 1 on")
    return value


BatchSize = Annotated[
    Annotated[Literal["auto"], BeforeValidator(_auto), Tag("<auto>")]
    | Annotated[int, Field(ge=1, le=1_000_000), Tag("<number>")],
    Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<number>"),
]


class Fractions(Section):
    train: float = Field(0.7, gt=0, lt=1, description="share of the rows to train on")
    val: float = Field(0.15, gt=0, lt=1, description="share for validation: stopping, choosing, tuning")
    test: float = Field(0.15, gt=0, lt=1, description="share that only the evaluate stage opens")


class Image(Section):
    size: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [32, 32], min_length=2, max_length=2, description="pictures in files: height and width they are brought to"
    )
    channels: Literal[1, 3] = Field(3, description="pictures in files: 1 for grey, 3 for RGB")


class Prepare(Section):
    source: str = Field("digits", min_length=1, description="a bundled data set, or the path of a file or folder")
    format: Literal[
        "auto", "csv", "divided", "parquet", "feather", "jsonl", "excel", "sql", "npz", "idx", "pictures"
    ] = Field("auto", description="of the file or folder; auto: by its name, or by what is in it")
    url: str | None = Field(
        None, description="of the database that a .sql file asks; PREPARE_PASSWORD has its password"
    )
    image: Image = Field(default_factory=Image, description="what pictures become")
    on_bad_image: Literal["fail", "skip"] = Field("fail", description="what to do with a file that is no picture")
    target: str | None = Field(None, description="the column to predict; bundled sets know theirs")
    columns: dict[str, KindOrOrder] = Field(
        default_factory=dict,
        description="what is not inferred as you want it, name: numeric, categorical, boolean, datetime, text, ignore, "
        "or the words of an ordered column in their order",
    )
    missing: list[str] = Field(default_factory=list, description="words that stand for a missing value, beside NA etc.")
    infinite: Literal["fail", "missing"] = Field("fail", description="what an infinite number is")
    target_transform: Literal["none", "standardize", "log1p"] = Field(
        "standardize", description="regression only; reports and predictions are in the target's own unit"
    )
    split: Literal["auto", "random", "stratified", "group", "time", "hash", "given"] = Field(
        "auto", description="how rows come to their split. auto: stratified for classes, random for numbers"
    )
    split_column: str | None = Field(None, description="of group, time, hash and given: the column that decides")
    duplicates: Literal["auto", "together", "apart"] = Field(
        "auto", description="identical rows of a random split. auto: together, unless more than 20% repeat another"
    )
    fractions: Fractions = Field(default_factory=Fractions, description="the three splits; they sum to 1")


class Model(Section):
    name: _name(_models()) = Field("mlp", description="the network")  # type: ignore[valid-type]
    widths: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        [256, 128], description="mlp: units of each hidden layer"
    )
    channels: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        [32, 64], min_length=1, description="cnn, resnet: channels of each stage"
    )
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="mlp, cnn, resnet")
    dropout: float = Field(0.4, ge=0, lt=1, description="mlp, cnn, resnet: share of units dropped in training")


class Augment(Section):
    flip: float = Field(0.0, ge=0, le=1, description="images: share turned left to right; 0.5 where both ways occur")
    crop: int = Field(0, ge=0, le=512, description="images: pixels of padding of a random crop")
    rotate: float = Field(0.0, ge=0, le=180, description="images: degrees of a random turn, either way")
    erase: float = Field(0.0, ge=0, le=1, description="images: share that loses a random box")


class Train(Section):
    epochs: int = Field(60, ge=1, le=100_000, description="passes over the training split")
    batch_size: BatchSize = Field(
        64, description="samples per update; auto: the largest power of two that fits into half of the memory"
    )
    accumulate: int = Field(
        1, ge=1, le=1024, description="parts of a batch that go through one after the other, where memory is short"
    )
    lr: float = Field(0.002, gt=0, le=100, description="peak learning rate")
    optimizer: _name(list(OPTIMIZERS)) = Field("adamw", description="the update rule")  # type: ignore[valid-type]
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: the others do not use it, and say so")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.9, 0.999], min_length=2, max_length=2, description="adam, adamw: decay of the two running averages"
    )
    weight_decay: float = Field(0.01, ge=0, le=10, description="sgd (L2), adamw (decoupled); not used by adam")
    schedule: _name(list(SCHEDULES)) = Field(  # type: ignore[valid-type]
        "cosine", description="learning rate over time"
    )
    warmup_epochs: float = Field(2.0, ge=0, description="cosine: epochs of linear warm-up; may be a fraction")
    step_epochs: int = Field(20, ge=1, description="step: epochs between two drops")
    step_factor: float = Field(0.1, gt=0, lt=1, description="step: what each drop multiplies by")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm; null for no clipping")
    loss: _name(["auto", *LOSSES]) = Field("auto", description="auto: by task")  # type: ignore[valid-type]
    class_weights: Weights = Field(
        "none", description="what each class counts for in the loss: none, balanced, or class: weight (1 where unnamed)"
    )
    pos_weight: float | None = Field(
        None, gt=0, le=1_000_000, description="binary: what a positive counts for in the loss"
    )
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="shuffle: each sample once an epoch; balanced: each class as often, with replacement"
    )
    augment: Augment = Field(default_factory=Augment, description="random changes to the images that are trained on")
    threshold: Threshold = Field(
        0.5, description="binary: probability from which a positive is predicted, or the metric to choose it by"
    )
    monitor: _name(list(METRICS)) = Field(  # type: ignore[valid-type]
        "loss", description="validation metric that decides the best epoch, early stopping and tuning"
    )
    patience: int | None = Field(None, ge=1, description="epochs without a better monitor before stopping")
    checkpoint_seconds: float | None = Field(
        300.0, gt=0, description="a checkpoint within an epoch, too, when the last is so old; null for none"
    )
    checkpoints_kept: int = Field(2, ge=1, le=10_000, description="the newest so many stay, and the best")
    checkpoints_days: float | None = Field(
        30.0, gt=0, description="checkpoints of other trainings go when unused for so long; null: never"
    )
    checkpoints_gb: float | None = Field(
        20.0, gt=0, description="and the longest unused, while all of them take more; null: no limit"
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: cuda, mps or cpu")
    resident_gb: float | None = Field(
        None,
        ge=0,
        description="inputs beyond it are read from disk in chunks; null: half of what a GPU has free, or of the RAM",
    )
    deterministic: bool = Field(
        False, description="GPU: only kernels that give equal bits each time, so that resuming does; slower"
    )
    cuda_graph: bool = Field(
        False, description="GPU: the step is recorded once and replayed, which helps small networks; not with fp16"
    )
    fail_on_wait: bool = Field(
        False, description="debugging: a step that makes Python wait for the device is an error; slower"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: fp32 on a CPU; autocast to bf16, or fp16 with scaled gradients, on a GPU"
    )


class Validate(Section):
    minimum: dict[str, float] = Field(
        default_factory=dict,
        description="metric: bound. A model that is worse on validation stops the pipeline before the test",
    )


class Tracking(Section):
    trial_epochs: bool = Field(True, description="MLflow has the epochs of each trial; false: its best values alone")
    uri: str | None = Field(None, description="MLflow store; null: MLFLOW_TRACKING_URI, else ./mlflow.db")
    experiment: str = Field("loopline", min_length=1, description="MLflow experiment")
    step_points: int = Field(
        5,
        ge=0,
        le=1000,
        description="points of an epoch in MLflow's curve of the loss by step; every step is kept here",
    )


def _plain_or_list(value: Any) -> Any:
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, bool | int | float | str | None):
            raise ValueError("must be a number, a word, true, false, null, or a list of these")
    return value


def _one_or_several(value: Any) -> Any:
    for one in value if isinstance(value, list) else [value]:
        _plain_or_list(one)
    return value


Choice = Annotated[Any, AfterValidator(_plain_or_list)]  # as a value of its param it is checked by src/tune/space.py
When = dict[str, Annotated[Any, AfterValidator(_one_or_several)]]


class Range(Section):
    low: float = Field(description="smallest value tried")
    high: float = Field(description="largest value tried")
    log: bool = Field(False, description="sample on a logarithmic scale")
    step: float | None = Field(None, gt=0, description="only low, low + step, …; null: any number between")
    when: When = Field(default_factory=dict, description="tried only where other params of the space have these values")


class Options(Section):
    choices: list[Choice] = Field(description="values tried")
    when: When = Field(default_factory=dict, description="tried only where other params of the space have these values")


def _kind_of_space(value: Any) -> str:
    if isinstance(value, list):
        return "<choices>"
    return "<options>" if isinstance(value, Options) or (isinstance(value, dict) and "choices" in value) else "<range>"


Allowed = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[Options, Tag("<options>")] | Annotated[list[Choice], Tag("<choices>")],
    Discriminator(_kind_of_space),
]
Lanes = Annotated[
    Annotated[Literal["auto"], BeforeValidator(_auto), Tag("<auto>")]
    | Annotated[int, Field(ge=1, le=4096), Tag("<number>")],
    Discriminator(lambda value: "<auto>" if isinstance(value, str) else "<number>"),
]


class Tune(Section):
    trials: int = Field(20, ge=1, description="trials in all, over every call on the same study")
    minutes: float | None = Field(None, gt=0, description="no trial is begun after so long; null: no limit")
    patience: int | None = Field(
        None, ge=1, description="it ends when so many trials have brought nothing better (by the first objective)"
    )
    sampler: Literal["tpe", "gp", "cmaes", "qmc", "random", "grid"] = Field(
        "tpe", description="how the next values are chosen; grid: every combination once"
    )
    pruner: Literal["median", "hyperband", "halving", "patient", "wilcoxon", "none"] = Field(
        "median", description="how bad trials are stopped early; wilcoxon: between seeds, by those that are over"
    )
    seeds: int = Field(1, ge=1, le=1000, description="trainings of each trial, which is ranked by their mean")
    objectives: list[str] = Field(
        [], description="metrics of validation, parameters, latency; []: train.monitor alone. Several: a Pareto front"
    )
    keep: int = Field(0, ge=0, description="best trials whose weights are kept, in models/tune.weights; 0: none")
    workers: int = Field(
        1, ge=1, le=256, description="processes that train; with 1, and a number of lanes, a seed gives the same trials"
    )
    lanes: Lanes = Field(
        "auto", description="trials that a worker trains as one program; auto: what is fastest here, by a few steps"
    )
    storage: str = Field("models/tune.journal", min_length=1, description="a journal file, or any Optuna storage URL")
    space: dict[str, Allowed] = Field(
        {"train.lr": Range(low=1e-4, high=0.3, log=True), "train.optimizer": ["sgd", "adam", "adamw"]},
        description="param: {low, high, log, step}, or a list of choices; {…, when: {param: value}} is a condition",
    )
