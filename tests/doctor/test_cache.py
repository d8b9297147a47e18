import json
import os
import shutil
import stat
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.pipeline


def md5_of(patient, name):
    stages = YAML(typ="safe").load(patient.path / "dvc.lock")["stages"].values()
    return next(out["md5"] for stage in stages for out in stage["outs"] if out["path"] == name)


def stored(patient, name):
    md5 = md5_of(patient, name)
    return patient.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def flip(path):
    """Flip a bit and leave the file read-only, as DVC takes it for good."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


@pytest.mark.parametrize("name", ["models/model.safetensors", "reports/tables"])
def test_a_corrupted_object_is_put_back_from_the_workspace(patient, name):
    path = stored(patient, name)
    good = path.read_bytes()
    flip(path)
    printed = patient.assert_mends(
        "cache", f"{path} is corrupted: it is named by the digest of {name}", str(path.relative_to(patient.path))
    )
    assert f"Put back from {name}" in printed
    assert path.read_bytes() == good
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_corrupted_object_that_nothing_else_has_is_removed_and_made_again(patient, finished):
    """Without the doctor DVC checks it out as it is."""
    path, model = stored(patient, "models/model.safetensors"), patient.path / "models/model.safetensors"
    good = path.read_bytes()
    flip(path)
    model.unlink()
    subprocess.run(["dvc", "checkout", "-q"], cwd=patient.path, env=finished.environment, check=True)
    assert model.read_bytes() != good
    seen = patient.look("--fix")
    assert [line.split()[1] for line in seen.mended] == ["cache"], seen.printed
    assert "models/model.safetensors is not what dvc.lock says" in seen.wrong[0]
    assert not path.exists()
    subprocess.run(["dvc", "repro", "-q", "train"], cwd=patient.path, env=finished.environment, check=True)
    assert model.read_bytes() == good
    assert patient.look().code == 0


def test_a_corrupted_file_within_a_folder(patient):
    listed = (patient.path / "reports/tables/predictions.csv").read_bytes()
    (path,) = [path for path in (patient.path / ".dvc/cache/files/md5").glob("*/*") if path.read_bytes() == listed]
    flip(path)
    said = "is named by the digest of reports/tables/predictions.csv"
    patient.assert_mends("cache", said, str(path.relative_to(patient.path)))
    assert path.read_bytes() == listed


def test_data_of_the_users_own_are_not_removed(patient, finished):
    (patient.path / "data/raw/mine.csv").write_text("a,b\n1,2\n")
    subprocess.run(["dvc", "add", "-q", "data/raw/mine.csv"], cwd=patient.path, env=finished.environment, check=True)
    (path,) = [
        path for path in (patient.path / ".dvc/cache/files/md5").glob("*/*") if path.read_bytes() == b"a,b\n1,2\n"
    ]
    flip(path)
    shutil.copyfile(path, patient.path / "data/raw/mine.csv")
    patient.assert_only_told("cache", f"{path} is corrupted", "dvc add data/raw/mine.csv")


def test_an_out_that_was_changed_by_hand(patient):
    with (patient.path / "models/model.json").open("a") as file:
        file.write("\n")
    patient.assert_only_told(
        "outs", "models/model.json is not what dvc.lock says", "dvc checkout --force models/model.json"
    )


def test_outs_that_a_stage_is_working_on_are_left_to_it(patient):
    os.unlink(patient.path / "models/run.json")
    living = subprocess.Popen([sys.executable, "-c", "input()", "repro"], stdin=subprocess.PIPE)
    info = {"pid": living.pid, "cmd": "/bin/dvc repro"}
    (patient.path / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {str(patient.path / "models/run.json"): info}}))
    seen = patient.look(only="outs")
    assert seen.code == 0
    assert f"not looked at while dvc runs: process {living.pid} (/bin/dvc repro)" in seen.printed
    living.kill()
    living.communicate()


def test_an_out_that_is_missing_and_all_that_are(patient):
    os.unlink(patient.path / "models/run.json")
    patient.assert_only_told("outs", "missing, though dvc.lock has them: models/run.json", "dvc checkout")
    for name in ("data/prepared", "models", "reports/plots", "reports/tables"):
        shutil.rmtree(patient.path / name)
    for name in ("reports/data.html", "reports/columns.csv"):
        os.unlink(patient.path / name)
    seen = patient.look(only="outs")  # as in a fresh clone
    assert seen.code == 0, seen.printed
    assert "nothing is made yet, or pulled" in seen.printed


def test_a_torn_entry_of_the_run_cache(patient):
    path = next((patient.path / ".dvc/cache/runs").glob("*/*/*"))
    path.write_text(path.read_text()[:40] + "\n  - [")
    patient.assert_mends("run-cache", f"{path} is torn", str(path.relative_to(patient.path)))
    assert not path.exists()
