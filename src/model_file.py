"""A trained model as two files: model.safetensors (weights) and model.json (all that is needed to rebuild it)."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from torch import nn

from src import files, models, paths
from src.data import schema as schemas
from src.data.schema import Schema
from src.errors import InputError


class Trained(NamedTuple):
    """A rebuilt network in evaluation mode, the schema of its data, and the rest of model.json."""

    network: nn.Module
    schema: Schema
    spec: dict[str, Any]

    @property
    def threshold(self) -> float:
        """The probability above which the positive class of a binary task is predicted."""
        return float(self.spec.get("threshold", 0.5))

    @property
    def batch_size(self) -> int:
        """Samples of a batch in its training: with others, numbers would differ in their last bits."""
        if "batch_size" not in self.spec:
            raise InputError(f"{paths.SPEC} is of an earlier version, and does not say the batch size. Run: dvc repro")
        return self.spec["batch_size"]


def save(folder: Path, weights: dict[str, Any], schema: Schema, **facts: Any) -> None:
    """Write both files. `facts` must hold `model`, the settings of that params section; the rest is for readers."""
    from safetensors.torch import save as to_bytes

    path = folder / paths.WEIGHTS.name
    files.write_bytes(path, to_bytes({name: tensor.contiguous() for name, tensor in weights.items()}))
    spec = {**facts, "sha256": files.sha256(path), "schema": schema.model_dump(mode="json")}
    files.write_sealed(folder / paths.SPEC.name, spec)


def load(folder: Path = paths.MODELS) -> Trained:
    """Rebuild the model in `folder` on the CPU; InputError when a file is missing, damaged or of another model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, where = folder / paths.WEIGHTS.name, folder / paths.SPEC.name
    spec = files.read_sealed(where)
    if not {"model", "sha256", "schema"} <= spec.keys():
        raise InputError(f"{where} is no description of a model. Run: dvc repro")
    schema = schemas.parse(spec["schema"], where)
    if not path.is_file() or files.sha256(path) != spec["sha256"]:
        raise InputError(f"{path} is missing or is not the file that {where} describes. Run: dvc repro")
    try:
        settings = SimpleNamespace(**spec["model"])
        network = models.build(settings.name, schema.shape, schema.outputs, settings)
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, LookupError, AttributeError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise InputError(f"{path} has no weights of the model that {where} describes: {why}. Run: dvc repro") from None
    return Trained(network.eval(), schema, spec)
