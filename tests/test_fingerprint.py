import shutil

from src import fingerprint
from src.params import changed

TRAINED_BY = {"src/training.py", "src/loop.py", "src/models.py", "src/losses.py", "src/optimizers.py", "src/metrics.py"}


def test_params_data_and_code_each_change_it(prepared_data):
    params, data = prepared_data("wine")
    mark = fingerprint.of(params, data.schema)
    other_params = fingerprint.of(changed(params, {"model.dropout": 0.1}), data.schema)
    other_data = fingerprint.of(params, data.schema.model_copy(update={"digest": "x"}))
    other_code = fingerprint.Fingerprint(mark.params, mark.data, {**mark.code, "src/loop.py": "x"})
    assert len({mark.digest, other_params.digest, other_data.digest, other_code.digest}) == 4
    assert other_params.differences(mark) == ["model.dropout: 0.4 → 0.1"]
    assert other_data.differences(mark) == [f"the prepared data ({mark.data[:8]} → x)"]
    assert other_code.differences(mark) == ["code of src/loop.py"]


def test_what_does_not_shape_a_training_does_not_change_it(prepared_data):
    params, data = prepared_data("wine")
    other = changed(params, {"tracking.experiment": "other", "tune.trials": 3, "validate.minimum": {"accuracy": 0.5}})
    assert fingerprint.of(other, data.schema) == fingerprint.of(params, data.schema)


def test_it_covers_the_code_that_trains_and_not_what_reports(prepared_data):
    params, data = prepared_data("wine")
    code = set(fingerprint.of(params, data.schema).code)
    assert code >= TRAINED_BY
    assert not [
        name for name in code if name.startswith(("stages/", "src/tune/")) or "mlflow" in name or "plots" in name
    ]


def test_it_outlives_the_process(prepared_data, workspace):
    params, data = prepared_data("wine")
    mark = fingerprint.of(params, data.schema)
    fingerprint.write(workspace / mark.digest, mark)
    other = fingerprint.of(changed(params, {"seed": 4}), data.schema)
    assert fingerprint.latest(workspace, other) == ["seed: 0 → 4"]
    assert fingerprint.latest(workspace, mark) == []


def test_a_changed_line_of_the_code_that_trains_is_named(prepared_data, workspace, monkeypatch):
    params, data = prepared_data("wine")
    mark = fingerprint.of(params, data.schema)
    shutil.copytree(fingerprint.PROJECT / "src", workspace / "src")
    monkeypatch.setattr(fingerprint, "PROJECT", workspace)
    assert fingerprint.of(params, data.schema) == mark
    for name in ("src/loop.py", "src/plots.py"):
        (workspace / name).write_text((workspace / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert fingerprint.of(params, data.schema).differences(mark) == ["code of src/loop.py"]


def test_the_closure_follows_every_kind_of_import(workspace, monkeypatch):
    sources = {
        "a": "import src.b\nimport os",
        "b": "def f():\n    from src import c",
        "c": "from src.d.e import name",
        "d/e": "from src import a, gone",
        "unused": "",
    }
    for name, text in sources.items():
        (workspace / f"src/{name}.py").parent.mkdir(parents=True, exist_ok=True)
        (workspace / f"src/{name}.py").write_text(text)
    monkeypatch.setattr(fingerprint, "PROJECT", workspace)
    assert fingerprint.closure(["src/a.py"]) == ["src/a.py", "src/b.py", "src/c.py", "src/d/e.py"]
