"""What prepared data is: columns and how they were encoded, target, shapes, counts, digests."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src import files, paths
from src.errors import InputError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Numeric(Record):
    """A column of numbers: (value - mean) / std, both of the training rows; a missing value becomes the mean.

    `indicator`: one more input that is 1 where the value is missing, for columns with missing training values.
    """

    kind: Literal["numeric"] = "numeric"
    name: str
    mean: float
    std: float
    indicator: bool


class Categorical(Record):
    """A column of categories: one input for each that the training rows hold; one never seen sets none of them.

    `indicator` as for numbers.
    """

    kind: Literal["categorical"] = "categorical"
    name: str
    categories: list[str]
    indicator: bool


class Pixels(Record):
    """Columns that are the pixels of one image, in the order channel, row, column; all share mean and std."""

    kind: Literal["pixels"] = "pixels"
    names: list[str]
    mean: float
    std: float


Column = Annotated[Numeric | Categorical | Pixels, Field(discriminator="kind")]


class Target(Record):
    """The column to predict. `classes`: its values in the order of their numbers, for classification and binary
    (the second is the positive one). For a regression: prediction = output * scale + offset."""

    name: str
    classes: list[str | int] | None = None
    offset: float = 0.0
    scale: float = 1.0


class Schema(Record):
    """`data/prepared/schema.json`. `shape` is that of one input; `outputs` what a model must give."""

    source: str
    source_sha256: str
    task: str
    target: Target
    columns: list[Column]
    shape: tuple[int, ...]
    outputs: int
    rows: dict[SplitName, int]
    dropped: dict[str, int]
    files: dict[SplitName, str]  # SHA-256 of each split's file
    digest: str  # of everything above and of the encoding: what a training saw
    made_with: dict[str, Any]  # the params of the prepare stage

    @property
    def title(self) -> str:
        """Short name for people: the bundled set's, or the file's without its folder."""
        return Path(self.source).stem


def load(path: Path = paths.SCHEMA) -> Schema:
    """The schema of the prepared data; InputError when it is missing or broken."""
    return parse(files.read_json(path), path)


def parse(values: Any, where: Path) -> Schema:
    try:
        return Schema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{where} is no schema of prepared data: {place}: {first['msg']}. Run: dvc repro") from None
