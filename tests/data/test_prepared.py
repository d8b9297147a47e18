import numpy as np
import pytest
import torch

from src import paths
from src.data import prepared
from src.data import schema as schemas
from src.data.prepare import prepare
from src.data.schema import SPLITS, Target
from src.errors import InputError
from src.params import Params, changed

WINE = changed(Params(), {"prepare.source": "wine"})
FACTS = {
    "source": "mine.csv",
    "source_sha256": "0" * 64,
    "task": "regression",
    "target": Target(name="y", offset=0.1 + 0.2, scale=1 / 3),
    "columns": [],
    "outputs": 1,
    "dropped": {},
    "made_with": {"seed": 0},
}


def arrays(rows, seed=0):
    draw = np.random.default_rng(seed)
    return {
        "inputs": draw.normal(size=(rows, 1, 2)).astype(np.float32).transpose(0, 2, 1),  # not contiguous
        "targets": draw.normal(size=rows).astype(np.float32),
        "rows": np.arange(rows),
    }


def write(folder, counts=(7, 3, 2), **changes):
    """Write splits of so many rows in pieces of three, as preparation does: the rows of the splits in turn."""
    splits = {name: arrays(count, count) for name, count in zip(SPLITS, counts, strict=True)}
    places = sorted((row, number) for number, count in enumerate(counts) for row in range(count))
    own = np.array([number for _, number in places], np.int8)
    inputs = np.stack([splits[SPLITS[number]]["inputs"][row] for row, number in places])
    places = (slice(start, start + 3) for start in range(0, len(own), 3))
    pieces = ([inputs[place][own[place] == number] for number in range(3)] for place in places)
    given = {name: (split["rows"], split["targets"]) for name, split in splits.items()}
    return prepared.write(folder, given, pieces, **{**FACTS, **changes}), splits


def test_what_is_written_loads_back_equal(workspace):
    written, splits = write(paths.PREPARED)
    schema = schemas.load()
    assert schema == written
    assert schema.rows == {"train": 7, "val": 3, "test": 2}
    assert schema.target == FACTS["target"]  # to the last bit
    assert schema.shape == (2, 1)
    for name, wanted in splits.items():
        for found, array in zip(prepared.load(name, schema), wanted.values(), strict=True):
            assert torch.equal(found, torch.from_numpy(np.ascontiguousarray(array)))


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_refused(workspace, name, place):
    schema = prepare(WINE)
    path = prepared.path_of(paths.PREPARED, name)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"{name}.safetensors is not the file that .*schema.json describes. .*dvc repro"
    ):
        prepared.load(name, schema)
    for other in SPLITS:
        if other != name:
            prepared.load(other, schema)


def test_a_cut_file_is_refused(workspace):
    schema = prepare(WINE)
    path = prepared.path_of(paths.PREPARED, "val")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"val.safetensors is not the file"):
        prepared.load("val", schema)


def test_a_missing_file_is_refused_with_the_way_out(workspace):
    schema = prepare(WINE)
    prepared.path_of(paths.PREPARED, "test").unlink()
    with pytest.raises(InputError, match=r"test.safetensors is missing. Make it with: dvc repro prepare"):
        prepared.load("test", schema)


def test_a_write_that_fails_leaves_no_schema(workspace):
    write(paths.PREPARED)
    path = prepared.path_of(paths.PREPARED, "val")
    path.unlink()
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"val.safetensors"):
        write(paths.PREPARED)
    assert not paths.SCHEMA.exists()
    assert not [left for left in paths.PREPARED.iterdir() if left.name.endswith(".partial")]


def test_the_digest_covers_what_a_training_sees_and_not_how_it_was_asked_for(workspace):
    first, _ = write(paths.PREPARED)
    assert write(paths.PREPARED)[0].digest == first.digest
    assert write(paths.PREPARED, made_with={"seed": 1})[0].digest == first.digest
    for changes in ({"task": "robust_regression"}, {"target": Target(name="y")}, {"dropped": {"missing target": 1}}):
        assert write(paths.PREPARED, **changes)[0].digest != first.digest
    assert write(paths.PREPARED, counts=(8, 3, 2))[0].digest != first.digest


def test_terms_are_the_params_that_decide_what_prepared_data_holds():
    base = prepared.terms(WINE)
    for key, value in {"seed": 5, "task": "binary", "prepare.target": "alcohol", "prepare.source": "digits"}.items():
        assert prepared.terms(changed(WINE, {key: value})) != base
    assert prepared.terms(changed(WINE, {"train.lr": 0.5, "model.name": "linear"})) == base
