"""Nothing is unpickled on a load path, and what is not what it should be is refused with its reason."""

import json
import struct
from pathlib import Path

import pytest
import torch

from src import checkpoints, files, model_file, paths, training
from src.errors import InputError

AUDIT = Path(__file__).parent / "audit"


@pytest.mark.long
@pytest.mark.pipeline
def test_no_command_looks_up_a_class_for_a_pickle(new_project, tmp_path):
    """Train twice, so that the second reads what the first has kept."""
    project, log = new_project(), tmp_path / "log"
    project.set(**{"prepare.source": "wine", "train.epochs": 3, "train.warmup_epochs": 1})
    project.environment |= {"PYTHONPATH": str(AUDIT), "AUDIT_LOG": str(log)}
    project.run("python", "-c", "import fractions, pickle; pickle.loads(pickle.dumps(fractions.Fraction(1)))")
    assert "fractions.Fraction" in log.read_text()
    log.write_text("")
    for stage in ("prepare", "train", "train", "validate", "evaluate"):
        project.run("python", "-m", f"stages.{stage}")
    project.run("python", "-m", "src.tune", "--trials", "1")
    project.run("python", "-m", "src.doctor", code=None)
    assert log.read_text() == ""


@pytest.fixture
def trained(prepared_data, workspace):
    """A model in models/, and its checkpoint folder."""
    params, data = prepared_data("wine", **{"train.epochs": 2, "train.warmup_epochs": 1.0})
    folder = workspace / "checkpoints"
    folder.mkdir()
    list(training.train(params, data, folder))
    state = checkpoints.newest(folder, print)
    model_file.save(paths.MODELS, state["model"], data.schema, model=params.model.model_dump())
    return folder


def resealed(change):
    """Write the description of the model anew, as somebody would who knows how."""
    spec = files.read_sealed(paths.SPEC)
    change(spec)
    spec["sha256"] = files.sha256(paths.WEIGHTS)
    files.write_sealed(paths.SPEC, spec)


def oversized(path):
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def beyond_the_end(path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def a_pickle(path):
    torch.save({"x": torch.zeros(1)}, path)


@pytest.mark.parametrize("hostile", [oversized, beyond_the_end, a_pickle])
def test_weights_that_are_none_are_refused(trained, hostile):
    hostile(paths.WEIGHTS)
    resealed(lambda spec: None)
    with pytest.raises(InputError, match=r"model.safetensors has no weights of the model that .* describes: "):
        model_file.load()


@pytest.mark.parametrize(
    "model",
    [
        {"name": "../../evil", "widths": [4], "activation": "relu", "dropout": 0.0},
        {"name": "mlp", "widths": ["__import__('os')"], "activation": "relu", "dropout": 0.0},
        {"name": "mlp"},
        {"name": "mlp", "widths": [7], "activation": "relu", "dropout": 0.0},
    ],
)
def test_a_description_of_another_model_is_refused(trained, model):
    resealed(lambda spec: spec.update(model=model))
    with pytest.raises(InputError, match=r"has no weights of the model that .* describes: |cannot take this data"):
        model_file.load()


def test_a_checkpoint_that_is_a_link_or_no_checkpoint_is_refused(trained, tmp_path):
    path = checkpoints.found(trained)[-1]
    for content in (b"", b"PK\x03\x04" + bytes(100), struct.pack("<Q", 1 << 60)):
        path.write_bytes(content)
        line = f"{files.sha256(path)}  {path.name}\n"
        checkpoints.digest_of(path).write_text(line)
        with pytest.raises(InputError, match="holds more than tensors and plain values, or is none"):
            checkpoints.read(path)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="it is a link, and checkpoints are files"):
        checkpoints.read(path)
