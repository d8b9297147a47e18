import pytest

pytestmark = pytest.mark.pipeline


def test_a_split_that_is_not_the_one_of_the_schema(patient):
    path = patient.path / "data/prepared/val.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    patient.assert_only_told("data", "val.safetensors is not the file", "dvc repro --force prepare")


def test_a_schema_that_is_torn(patient):
    path = patient.path / "data/prepared/schema.json"
    path.write_text(path.read_text()[:100])
    patient.assert_only_told("data", "schema.json is not valid JSON", "dvc repro --force prepare")
