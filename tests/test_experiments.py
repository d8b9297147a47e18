"""Each file in experiments/ is a set of params that the pipeline accepts."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from src.params import Params, changed, flatten

FILES = sorted(Path(__file__).parents[1].glob("experiments/*.txt"))
KNOWN = flatten(Params().model_dump(by_alias=True))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_an_experiment_holds_params_that_fit(path):
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        flag, setting = line.split()  # no spaces within: the shell splits the file into words
        key, _, value = setting.partition("=")
        assert (flag, key in KNOWN) == ("-S", True), line
        values[key] = YAML(typ="safe").load(value)
    assert changed(Params(), values).prepare.source == values["prepare.source"]


def test_there_is_one_for_every_bundled_set():
    from src.data.sources import SOURCES

    assert {path.stem for path in FILES} >= set(SOURCES)
