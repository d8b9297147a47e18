import pytest

from src import checkpoints
from src.errors import InputError
from tests.faults.corruptions import all_kinds


def test_no_damaged_file_is_used(tmp_path):
    for kind, results in all_kinds(tmp_path / "files", 220, seed=0).items():
        assert len(results) == 20
        assert [(seed, way) for seed, way, noticed in results if not noticed] == [], kind


def test_a_digest_of_another_file_is_none(tmp_path):
    path = checkpoints.write(tmp_path, {"epoch": 1, "step": 0, "best_epoch": 1}, keep=2)
    digest = checkpoints.digest_of(path)
    digest.write_text(digest.read_text().replace("epoch", "epoc8"))
    with pytest.raises(InputError, match="is damaged"):
        checkpoints.read(path)
