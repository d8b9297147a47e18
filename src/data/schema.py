"""What prepared data is: columns and how they were encoded, target, shapes, counts, digests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src import files, paths
from src.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scaled(Record):
    """A column that is one number: (value - mean) / std, both of the training rows; a missing value becomes the mean.

    `indicator`: one more input that is 1 where the value is missing, for columns with missing training values.
    """

    name: str
    mean: float
    std: float
    indicator: bool

    @property
    def width(self) -> int:
        """Inputs that the column becomes; every kind of column knows its own."""
        return 1 + self.indicator


class Numeric(Scaled):
    """A column of numbers. `low`, `high`: the smallest and the largest training value."""

    kind: Literal["numeric"] = "numeric"
    low: float
    high: float


class Boolean(Scaled):
    """A column of yes and no, in any of the usual spellings: 1 or 0."""

    kind: Literal["boolean"] = "boolean"


class Ordinal(Scaled):
    """A column of words that have an order: the place in `order`."""

    kind: Literal["ordinal"] = "ordinal"
    order: list[str]


class Datetime(Record):
    """A column of dates: five numbers, each scaled by its own mean and std: days since 1970, year, month (1 to 12),
    weekday (0: Monday), hour of the day. `format` is that of strptime where the source holds words, else None."""

    kind: Literal["datetime"] = "datetime"
    name: str
    format: str | None
    mean: list[float]
    std: list[float]
    indicator: bool

    @property
    def width(self) -> int:
        return len(self.mean) + self.indicator


class Categorical(Record):
    """A column of categories: one input for each that is frequent in the training rows, and with `other` one that all
    the rest share, those never seen among them; without it one never seen sets no input. `indicator` as for numbers.
    """

    kind: Literal["categorical"] = "categorical"
    name: str
    categories: list[str]
    other: bool = False
    indicator: bool

    @property
    def width(self) -> int:
        return len(self.categories) + self.other + self.indicator


class Text(Record):
    """A column of free text: how often words that hash to each of `width` inputs occur (the hashing trick, Weinberger
    et al. 2009), scaled to length 1. A missing text is all zeros."""

    kind: Literal["text"] = "text"
    name: str
    width: int


class Pixels(Record):
    """Columns that are the pixels of one image, in the order channel, row, column; all share mean and std."""

    kind: Literal["pixels"] = "pixels"
    names: list[str]
    mean: float
    std: float


Column = Annotated[Numeric | Boolean | Ordinal | Datetime | Categorical | Text | Pixels, Field(discriminator="kind")]


class Target(Record):
    """The column to predict. `classes`: its values in the order of their numbers, for classification and binary
    (the second is the positive one), and `counts` the training rows of each. For a regression the model learns
    (value - offset) / scale, of log(1 + value) where `log`."""

    name: str
    classes: list[str | int] | None = None
    counts: list[int] | None = None
    log: bool = False
    offset: float = 0.0
    scale: float = 1.0

    def encoded(self, values: np.ndarray) -> np.ndarray:
        """Values of a regression [N] as the model learns them, float32."""
        plain = np.log1p(values) if self.log else values
        return ((plain - self.offset) / self.scale).astype(np.float32)

    def decoded(self, values: np.ndarray) -> np.ndarray:
        """The way back: values [N] as the model learns them in the target's own unit, float64."""
        plain = values.astype(np.float64) * self.scale + self.offset
        return np.expm1(plain) if self.log else plain

    def in_unit(self, outputs: "Tensor") -> "Tensor":
        """The same for tensors [N], where they lie."""
        plain = outputs.double() * self.scale + self.offset
        return plain.expm1() if self.log else plain


class Schema(Record):
    """`data/prepared/schema.json`. `shape` is that of one input; `outputs` what a model must give."""

    source: str
    source_sha256: str
    task: str
    target: Target
    columns: list[Column]
    ignored: dict[str, str] = {}  # columns that are not used, and why
    shape: tuple[int, ...]
    outputs: int
    rows: dict[SplitName, int]
    dropped: dict[str, int]
    notes: list[str] = []  # what preparing had to say of the rows
    files: dict[SplitName, str]  # SHA-256 of each split's file
    digest: str  # of everything above and of the encoding: what a training saw
    made_with: dict[str, Any]  # the params of the prepare stage

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and std of the pixels of images that are kept as uint8, (0, 1) for all else, which is scaled already."""
        first = self.columns[0] if self.columns else None
        return (first.mean, first.std) if isinstance(first, Pixels) else (0.0, 1.0)

    @property
    def title(self) -> str:
        """Short name for people: the bundled set's, or the file's without its folder."""
        return Path(self.source).stem


def load(path: Path = paths.SCHEMA) -> Schema:
    """The schema of the prepared data; InputError when it is missing or broken."""
    return parse(files.read_sealed(path), path)


def parse(values: Any, where: Path) -> Schema:
    try:
        return Schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{where} is no schema of prepared data: {place}: {first['msg']}. Run: dvc repro") from None
