"""The README says what the code is."""

import re
from pathlib import Path

import optuna
import pytest
from ruamel.yaml import YAML

from src import params, params_table
from src.tune import space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = re.findall(r"\[`([\w/.]+):(\d+)`\]\([\w/.]+#L(\d+)\) `([^`]+)`", README)


def test_params_table_is_the_one_that_the_code_prints():
    assert params_table.table() in README


def test_tutorial_table_has_its_places():
    assert len(PLACES) >= 15


@pytest.mark.parametrize(("path", "line", "anchor", "code"), PLACES, ids=[code for *_, code in PLACES])
def test_tutorial_table_points_at_the_line(path: str, line: str, anchor: str, code: str):
    assert code in (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert line == anchor


@pytest.mark.parametrize("target", re.findall(r"\]\(([\w/.-]+)\)", README))
def test_links_lead_to_files(target: str):
    assert (ROOT / target).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)(?=`|\s+#)", README))))
def test_make_targets_exist(target: str):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_search_space_can_be_searched():
    (text,) = re.findall(r"```yaml\n(tune:.*?)```", README, re.DOTALL)
    shown = params.check(YAML().load(text))
    space.check(shown)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        values = space.suggest(study.ask(), shown)
        params.changed(shown, values)  # which can be trained with
        assert ("train.momentum" in values) == (values["train.optimizer"] == "sgd")
        assert ("model.activation" in values) == (values["model.name"] == "mlp")
