import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src import files, model_file, training
from src.errors import InputError

ROOT = Path(__file__).parents[1]
QUICK = {"train.epochs": 2, "train.warmup_epochs": 1.0}

REBUILD = """if True:
    import sys
    from pathlib import Path
    import torch
    from safetensors.torch import load_file, save_file
    from src import device, model_file
    for folder in map(Path, sys.argv[1:]):
        inputs = load_file(folder.parent / f"{folder.name}.inputs")["inputs"]
        network = device.place(model_file.load(folder).network, torch.device("cpu"))
        with torch.no_grad():
            save_file({"outputs": network(inputs)}, folder.parent / f"{folder.name}.outputs")
"""


def saved(params, data, folder):
    """A trained network (in evaluation mode), written to `folder`."""
    trainer, train, val = training.assemble(params, data)
    list(training.fit(trainer, train, val, 1, 2))
    model_file.save(folder, trainer.model.state_dict(), data.schema, model=params.model.model_dump(), epoch=2)
    return trainer.model.eval()


def test_the_two_files_alone_rebuild_the_model_in_another_process(prepared_data, workspace):
    from safetensors.torch import load_file, save_file

    kinds = [
        ("digits", "classification", {"model.name": "cnn", "model.channels": [4, 8]}),
        ("digits", "classification", {"model.name": "resnet", "model.channels": [4, 8]}),
        ("diabetes", "regression", {"model.widths": [16], "model.activation": "gelu"}),
    ]
    expected = {}
    for source, task, changes in kinds:
        params, data = prepared_data(source, task, **QUICK, **changes)
        name = params.model.name
        network = saved(params, data, workspace / name)
        with torch.no_grad():
            expected[name] = network(data.val.inputs)
        save_file({"inputs": data.val.inputs.clone()}, workspace / f"{name}.inputs")
    shutil.rmtree(workspace / "data")
    for name in expected:
        assert {path.name for path in (workspace / name).iterdir()} == {"model.safetensors", "model.json"}
    # a process of its own starts with another random state and other threads: neither may matter
    folders = [str(workspace / name) for name in expected]
    subprocess.run([sys.executable, "-c", REBUILD, *folders], cwd=ROOT, check=True)
    for name, outputs in expected.items():
        assert torch.equal(load_file(workspace / f"{name}.outputs")["outputs"], outputs), name


@pytest.fixture
def folder(prepared_data, workspace):
    saved(*prepared_data("wine", **QUICK), workspace / "models")
    return workspace / "models"


def test_a_model_of_an_earlier_version_says_how_to_make_it_anew(folder):
    trained = model_file.load(folder)  # saved here without the size of a batch, as it once was
    with pytest.raises(InputError, match=r"does not say the batch size\. Run: dvc repro"):
        _ = trained.batch_size


def test_what_is_loaded_neither_drops_units_nor_lacks_its_facts(folder):
    trained = model_file.load(folder)
    inputs = torch.randn(4, *trained.schema.shape)
    assert torch.equal(trained.network(inputs), trained.network(inputs))
    assert trained.spec["epoch"] == 2
    assert trained.schema.target.classes == ["class_0", "class_1", "class_2"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "swap"])
def test_weights_that_are_not_those_described_are_refused(folder, damage):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-4])
    elif damage == "swap":
        path.write_bytes(b"weights of another model")
    else:
        path.unlink()
    with pytest.raises(
        InputError, match=r"model.safetensors is missing or is not the file that .*model.json describes"
    ):
        model_file.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: {}, "is no description of a model"),
        (lambda spec: {key: spec[key] for key in spec if key != "schema"}, "is no description of a model"),
        (lambda spec: {**spec, "schema": {**spec["schema"], "task": 3}}, "is no schema of prepared data: task"),
    ],
)
def test_a_description_that_is_none_is_refused(folder, change, message):
    path = folder / "model.json"
    files.write_sealed(path, change(files.read_sealed(path)))
    with pytest.raises(InputError, match=message):
        model_file.load(folder)


def test_a_description_that_was_changed_is_refused(folder):
    path = folder / "model.json"
    path.write_text(path.read_text(encoding="utf-8").replace("class_1", "class_9"), encoding="utf-8")
    with pytest.raises(InputError, match=r"model.json is damaged: its SHA-256 is not the one written in it"):
        model_file.load(folder)


def test_no_model_is_refused_with_the_way_to_make_one(workspace):
    with pytest.raises(InputError, match=r"model.json is missing. Make it with: dvc repro"):
        model_file.load(workspace)
