import os
import sys
from pathlib import Path

import pytest

from src.doctor import environment
from src.params import Params, changed

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.pipeline


def said(check, settings=None):
    """The one finding of a check, as (wrong, words)."""
    (finding,) = check(settings or Params())
    return finding.wrong, f"{finding.said} | {finding.remedy}"


@pytest.mark.parametrize("content", ["train: [", "train:\n  lrr: 1\n  epochs: -2\n", None])
def test_params_that_cannot_be_read_are_a_finding(patient, content):
    path = patient.path / "params.yaml"
    path.unlink() if content is None else path.write_text(content)
    patient.assert_only_told("params", "params.yaml", "git checkout params.yaml")


def test_a_version_outside_its_range_is_named(workspace):
    text = (ROOT / "pyproject.toml").read_text()
    (workspace / "pyproject.toml").write_text(text.replace("optuna>=5,<6", "optuna>=99").replace('"rich"', '"no-such"'))
    bad, words = said(environment.versions)
    assert bad
    assert "no-such missing" in words
    assert ">=99" in words
    assert "torch" not in words


@pytest.fixture
def venv(workspace):
    """A .venv as `make setup` leaves it, but for the packages."""
    (workspace / ".venv/bin").mkdir(parents=True)
    (workspace / ".venv/bin/python").symlink_to(sys.executable)
    (workspace / "requirements.lock").write_text("# exact\nrich==1.0\n")
    stamp = f"{sys.version_info[:2]} {workspace}/.venv/bin/python\n# exact\nrich==1.0\n"
    (workspace / ".venv/.from-lock").write_text(stamp)
    return workspace / ".venv"


def test_a_venv_made_from_the_lock_is_well(venv):
    assert said(environment.venv)[0] is False


@pytest.mark.parametrize(
    "damage",
    [
        lambda venv: (venv.parent / "requirements.lock").write_text("# exact\nrich==1.1\n"),
        lambda venv: (venv / ".from-lock").unlink(),
        lambda venv: (venv / "bin/python").unlink(),
    ],
)
def test_a_venv_that_is_stale_or_missing_is_for_make_setup(venv, damage):
    damage(venv)
    bad, words = said(environment.venv)
    assert bad
    assert words.endswith("make setup")


def test_a_package_of_another_version_than_the_locks_is_named(venv, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(venv))
    bad, words = said(environment.venv)
    assert bad
    assert "rich" in words
    assert "(lock: 1.0)" in words


def test_a_device_that_is_not_there(workspace):
    bad, words = said(environment.device_in_use, changed(Params(), {"train.device": "cuda:7"}))
    assert bad
    assert "train.device = 'cuda:7' is not on this machine" in words
    assert said(environment.device_in_use, changed(Params(), {"train.device": "cpu"}))[0] is False


def test_a_disk_that_cannot_hold_the_next_checkpoints(workspace):
    assert said(environment.disk)[0] is False
    folder = workspace / "models/checkpoints/abc"
    folder.mkdir(parents=True)
    (folder / "fingerprint.json").write_text("{}")
    (folder / "epoch-000001.pt").touch()
    os.truncate(folder / "epoch-000001.pt", 10**13)  # it says so, and takes nothing
    finding, _ = environment.disk(Params())
    assert finding.wrong
    assert "30000.0 GB are needed" in finding.said
