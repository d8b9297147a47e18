import shutil
from pathlib import Path

import pytest

from src.errors import InputError
from src.params import load
from src.tune.apply import apply

ROOT = Path(__file__).parents[2]
TEXT = """\
# the seed
seed: 0

train:
  lr: 1e-3          # small
  patience:         # none
  optimizer: sgd    # or "adam"
  betas:
  - 0.9
  - 0.99
"""


def test_only_the_values_change(workspace):
    path = workspace / "params.yaml"
    path.write_text(TEXT)
    changes = apply({"train.lr": 0.0123, "train.optimizer": "adamw", "seed": 0}, path)
    assert changes == ["train.lr: 0.001 → 0.0123", "train.optimizer: sgd → adamw"]
    assert path.read_text() == TEXT.replace("lr: 1e-3  ", "lr: 0.0123").replace("sgd    #", "adamw  #")


def test_the_shipped_file_is_left_as_it_is_by_its_own_values(workspace):
    path = workspace / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    flat = load(path).flat()
    assert apply({"train.lr": flat["train.lr"]}, path) == []
    assert path.read_text() == (ROOT / "params.yaml").read_text()


def test_a_value_that_would_not_load_is_never_written(workspace):
    path = workspace / "params.yaml"
    path.write_text(TEXT)
    with pytest.raises(InputError, match=r"train.lr = -1"):
        apply({"train.lr": -1}, path)
    assert path.read_text() == TEXT


def test_a_param_that_the_file_leaves_out_is_added(workspace):
    path = workspace / "params.yaml"
    path.write_text("seed: 1\n")
    assert apply({"model.dropout": 0.3}, path) == ["model.dropout: null → 0.3"]
    assert load(path).model.dropout == 0.3


def test_a_list_stays_on_its_line_and_null_is_yaml(workspace):
    path = workspace / "params.yaml"
    path.write_text("train:\n  clip_norm: 1.0\n  betas: [0.9, 0.999]  # two\n")
    changes = apply({"train.clip_norm": None, "train.betas": [0.8, 0.99]}, path)
    assert changes == ["train.clip_norm: 1.0 → null", "train.betas: [0.9, 0.999] → [0.8, 0.99]"]
    assert path.read_text() == "train:\n  clip_norm:\n  betas: [0.8, 0.99]   # two\n"  # comments keep their column
    assert load(path).train.clip_norm is None
