import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src import models, params, sections
from src.errors import InputError
from src.losses import LOSSES
from src.metrics import METRICS, of_task
from src.params import Params, changed, check, load

ROOT = Path(__file__).parents[1]
TASKS = [task for task in get_args(sections.Task) if task != "auto"]
FIELDS = dict(params.fields())


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def mistakes(values):
    """The lines of the InputError that `values` raise, one a mistake, without the line that counts them."""
    with pytest.raises(InputError) as caught:
        check(values)
    first, *lines = [line.strip() for line in str(caught.value).splitlines()]
    assert first == f"params has {len(lines)} mistake{'s' * (len(lines) > 1)}:"
    return lines


def mistake(values):
    lines = mistakes(values)
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("values", "key", "nearest"),
    [
        ({"sead": 1}, "sead", "seed"),
        ({"trian": {"lr": 0.1}}, "trian", "train"),
        ({"lr": 0.1}, "lr", "train.lr"),
        ({"train": {"lrr": 0.1}}, "train.lrr", "train.lr"),
        ({"train": {"batchsize": 8}}, "train.batchsize", "train.batch_size"),
        ({"model": {"dropout": 0.1, "width": [8]}}, "model.width", "model.widths"),
        ({"model": {"lr": 0.1}}, "model.lr", "train.lr"),
        ({"prepare": {"fractions": {"trian": 0.7}}}, "prepare.fractions.trian", "prepare.fractions.train"),
        ({"validate_": {"minimum": {}}}, "validate_", "validate"),
        ({"tune": {"spaces": {}}}, "tune.spaces", "tune.space"),
        (
            {"tune": {"space": {"train.lr": {"low": 1e-3, "high": 1.0, "logg": True}}}},
            "tune.space.train.lr.logg",
            "tune.space.train.lr.log",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(values, key, nearest):
    assert mistake(values) == f"{key} is not a known param. Did you mean {nearest}?"


def test_a_key_like_no_other_has_no_nearest():
    assert mistake({"zzzzzz": 1}) == "zzzzzz is not a known param"


def test_a_param_to_tune_that_does_not_exist_is_named_with_the_nearest():
    line = mistake({"tune": {"space": {"train.lrr": [0.1, 0.2]}}})
    assert "train.lrr" in line
    assert line.endswith("Did you mean train.lr?")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("train.lr", "0.1", "number"),
        ("train.lr", True, "number"),
        ("train.lr", [0.1], "number"),
        ("train.lr", float("nan"), "finite"),
        ("train.lr", float("inf"), "finite"),
        ("train.epochs", "ten", "integer"),
        ("train.epochs", True, "integer"),
        ("train.epochs", 1.5, "integer"),
        ("train.epochs", [3], "integer"),
        ("train.epochs", None, "integer"),
        ("train.epochs", 0, "greater than or equal to 1"),
        ("train.batch_size", 0, "greater than or equal to 1"),
        ("train.lr", 0, "greater than 0"),
        ("train.momentum", 1, "less than 1"),
        ("model.dropout", 1, "less than 1"),
        ("train.patience", 0, "greater than or equal to 1"),
        ("seed", -1, "greater than or equal to 0"),
        ("train.optimizer", 3, "string"),
        ("train.optimizer", None, "string"),
        ("prepare.columns.a", 1, "categorical"),
        ("train.class_weights", "even", "'none' or 'balanced'"),
        ("train.class_weights.a", -1, "greater than 0"),
        ("prepare.columns.order", ["low"], "at least 2"),
        ("prepare.columns.a", "number", "'numeric', 'categorical', 'boolean', 'datetime', 'text' or 'ignore'"),
        ("train.device", "gpu", "auto, cpu, mps, cuda, cuda:N"),
        ("train.device", "cuda:", "auto, cpu, mps, cuda, cuda:N"),
        ("train.betas", [0.9], "at least 2"),
        ("train.betas", [0.9, 0.99, 0.999], "at most 2"),
        ("train.batch_size", "large", "must be auto, or a whole number from 1 on"),
        ("train.precision", "fp8", "'auto', 'fp32', 'bf16' or 'fp16'"),
        ("train", None, "mapping"),
        ("train", [1], "mapping"),
        ("prepare.source", 5, "string"),
        ("prepare.source", "", "at least 1"),
        ("prepare.fractions", 0.7, "mapping"),
        ("model.widths", 256, "list"),
        ("model.channels", [], "at least 1"),
        ("task", "clasification", "'classification', 'binary', 'regression' or 'robust_regression'"),
        ("validate.minimum", 0.9, "mapping"),
        ("tune.pruner", None, "'patient', 'wilcoxon' or 'none'"),
        ("tune.space", ["train.lr"], "mapping"),
        ("seed", "0", "integer"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_what_is_allowed(key, value, wanted):
    line = mistake(nested(key, value))
    assert line.startswith(f"{key} = {value!r}: ")
    assert wanted in line


@pytest.mark.parametrize("key", FIELDS)
def test_every_param_refuses_a_value_of_another_kind(key):
    is_mapping = key in ("validate.minimum", "tune.space", "prepare.columns", "train.class_weights")
    for value in ([{}], 1 + 2j) if is_mapping else ({"a": 1}, 1 + 2j):
        assert mistake(nested(key, value)).startswith(f"{key} = {value!r}: ")


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if type(None) not in get_args(field.annotation)])
def test_null_is_refused_where_it_means_nothing(key):
    assert mistake(nested(key, None)).startswith(f"{key} = None: ")


def bounds():
    """(key, value outside, bound) for every bound that a param or the items of a list param have."""
    for key, field in FIELDS.items():
        items = get_args(field.annotation) if getattr(field.annotation, "__origin__", None) is list else ()
        inner = [
            constraint for item in items for extra in getattr(item, "__metadata__", ()) for constraint in extra.metadata
        ]
        for constraints, in_list in ((field.metadata, False), (inner, True)):
            for constraint in constraints:
                for sign, step in (("gt", 0), ("lt", 0), ("ge", -1), ("le", 1)):
                    bound = getattr(constraint, sign, None)
                    if bound is not None:
                        yield key, [bound + step, bound + step] if in_list else bound + step, bound


@pytest.mark.parametrize(("key", "outside", "bound"), list(bounds()))
def test_a_value_out_of_bounds_is_refused_with_the_bound(key, outside, bound):
    for line in mistakes(nested(key, outside)):
        assert line.startswith(key)
        assert str(outside[0] if isinstance(outside, list) else outside) in line
        assert str(bound) in line


def test_the_bounds_are_found_in_the_fields():
    keys = {key for key, _, _ in bounds()}
    assert keys >= {"seed", "train.lr", "train.epochs", "train.betas", "model.widths", "tune.trials"}


@pytest.mark.parametrize(
    ("key", "value", "nearest"),
    [
        ("model.name", "mpl", "mlp"),
        ("train.optimizer", "adaw", "adamw"),
        ("train.schedule", "cosin", "cosine"),
        ("train.loss", "cros_entropy", "cross_entropy"),
        ("train.monitor", "acuracy", "accuracy"),
    ],
)
def test_an_unknown_name_is_refused_with_all_names_and_the_nearest(key, value, nearest):
    line = mistake(nested(key, value))
    assert line.startswith(f"{key} = '{value}': must be one of ")
    assert line.endswith(f"Did you mean {nearest}?")
    for name in sections._models() if key == "model.name" else [nearest]:
        assert name in line


def test_model_names_are_those_of_the_registry():
    assert sections._models() == list(models.MODELS)
    assert set(get_args(FIELDS["model.activation"].annotation)) == set(models.ACTIVATIONS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_accepted_for_its_tasks_only(task, loss):
    values = {"task": task, "train": {"loss": loss}}
    if task in LOSSES[loss].tasks:
        assert check(values).loss == loss
    else:
        line = mistake(values)
        assert line.startswith(f"train.loss = '{loss}' does not fit task {task}: use auto, ")
        assert check({"task": task}).loss in line


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_accepted_for_its_tasks_only(task, metric):
    monitor = {"task": task, "train": {"monitor": metric}}
    minimum = {"task": task, "validate": {"minimum": {metric: 0.5}}}
    if metric in of_task(task):
        assert check(monitor).train.monitor == metric
        assert check(minimum).validate_.minimum == {metric: 0.5}
        beyond = -0.1 if METRICS[metric].goal == "minimise" else 95
        said = f"validate.minimum.{metric} = {beyond:g} is met by no model: the best there can be is "
        assert mistake({"task": task, "validate": {"minimum": {metric: beyond}}}).startswith(said)
    else:
        allowed = f"is no metric of {task}: use {', '.join(of_task(task))}"
        assert mistake(monitor) == f"train.monitor = '{metric}' {allowed}"
        assert mistake(minimum) == f"validate.minimum.{metric} {allowed}"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("name", "value"), [("pos_weight", 3.0), ("threshold", "f1"), ("threshold", 0.3)])
def test_what_decides_between_two_is_for_binary_only(task, name, value):
    values = {"task": task, "train": {name: value}}
    if task == "binary":
        assert getattr(check(values).train, name) == value
    else:
        assert mistake(values).startswith(f"train.{name} is for task binary, and the task is {task}: set it to ")


def test_classes_are_weighed_once():
    values = {"task": "binary", "train": {"pos_weight": 3.0, "class_weights": "balanced"}}
    assert mistake(values) == "train.pos_weight and train.class_weights both weigh the classes: set one of them"


@pytest.mark.parametrize(("value", "allowed"), [(1.0, "must be less than 1"), ("recall", "must be 'accuracy', ")])
def test_a_threshold_is_a_probability_or_a_metric(value, allowed):
    assert mistake({"task": "binary", "train": {"threshold": value}}).startswith(
        f"train.threshold = {value!r}: {allowed}"
    )


@given(st.tuples(*[st.integers(1, 98)] * 3))
def test_fractions_must_sum_to_one(percent):
    fractions = dict(zip(("train", "val", "test"), (part / 100 for part in percent), strict=True))
    values = {"prepare": {"fractions": fractions}}
    if sum(percent) == 100:
        assert check(values).prepare.fractions.val == percent[1] / 100
    else:
        line = mistake(values)
        assert line.startswith("prepare.fractions: ")
        assert line.endswith(f"= {sum(fractions.values()):g}; they must sum to 1")


@pytest.mark.parametrize(
    ("schedule", "warmup", "refused"), [("cosine", 3, True), ("cosine", 2.5, False), ("constant", 3, False)]
)
def test_warmup_must_end_before_training_does(schedule, warmup, refused):
    values = {"train": {"epochs": 3, "warmup_epochs": warmup, "schedule": schedule}}
    if refused:
        assert mistake(values) == "train.warmup_epochs = 3 must be below train.epochs = 3"
    else:
        assert check(values).train.warmup_epochs == warmup


def test_every_mistake_is_listed():
    lines = mistakes({"sead": 1, "train": {"lr": -1, "optimizer": "adm"}, "model": {"dropout": "no"}})
    assert len(lines) == 4
    for key in ("sead", "train.lr", "train.optimizer", "model.dropout"):
        assert any(line.startswith(f"{key} ") for line in lines)
    together = mistakes({"train": {"loss": "mse", "monitor": "rmse"}, "validate": {"minimum": {"mae": 1}}})
    assert len(together) == 3


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"low": 1e-4}, "tune.space.train.lr.high is missing"),
        ({"low": "a", "high": 1}, "tune.space.train.lr.low = 'a': must be a valid number"),
        (3, "tune.space.train.lr = 3: must be a mapping"),
    ],
)
def test_a_broken_range_is_one_mistake(values, line):
    assert mistake({"tune": {"space": {"train.lr": values}}}) == line


def test_choices_keep_their_types():
    space = check({"tune": {"space": {"train.lr": [1, 2.5], "train.optimizer": ["adam"]}}}).tune.space
    assert [type(value) for value in space["train.lr"]] == [int, float]
    assert space["train.optimizer"] == ["adam"]


@pytest.mark.parametrize("text", ["", "just text", "- 1\n- 2", "3"])
def test_a_file_that_is_no_mapping_is_refused(workspace, text):
    Path("params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"params.yaml must be a mapping of sections"):
        load()


@pytest.mark.parametrize("content", [b"train: [1", b"a: b: c", b"seed: 1\nseed: 2", b"seed: \xe9"])
def test_a_file_that_is_no_yaml_is_refused(workspace, content):
    Path("params.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"params.yaml is not valid YAML"):
        load()


def test_a_missing_file_is_refused_with_the_way_out(workspace):
    with pytest.raises(InputError, match=r"params.yaml is missing. Run from the project's root"):
        load()


def test_the_message_names_the_file(workspace):
    Path("params.yaml").write_text("train: {lr: 0}")
    with pytest.raises(InputError, match=r"^params.yaml has 1 mistake:\n  train.lr = 0: must be greater than 0$"):
        load()


def test_the_shipped_file_shows_every_param():
    load(ROOT / "params.yaml")
    written = params.flatten(params.read(ROOT / "params.yaml"))
    assert [key for key in FIELDS if not any(name == key or name.startswith(f"{key}.") for name in written)] == []


@given(st.floats(1e-300, 100))
def test_a_number_in_any_notation_reads_as_that_number(value):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        for text in (repr(value), f"{value:.17e}", f"{value:.17E}"):
            path.write_text(f"train: {{lr: {text}}}")
            assert load(path).train.lr == value


def test_scientific_notation_without_a_dot_is_a_number(workspace):
    Path("params.yaml").write_text("train: {lr: 1e-3, weight_decay: 1E-2}\n")
    assert load().train.lr == 0.001
    assert load().train.weight_decay == 0.01


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 1), st.sampled_from(TASKS))
def test_changed_changes_what_it_is_given_and_nothing_else(seed, lr, task):
    before = Params()
    after = changed(before, {"seed": seed, "train.lr": lr, "task": task})
    assert after.flat() == {**before.flat(), "seed": seed, "train.lr": lr, "task": task}
    assert changed(after, {}) == after
    assert before == Params()


def test_changed_refuses_what_a_file_may_not_say():
    with pytest.raises(InputError, match=r"train.lr = -1: must be greater than 0"):
        changed(Params(), {"train.lr": -1})
    with pytest.raises(InputError, match=r"train.lrr is not a known param. Did you mean train.lr\?"):
        changed(Params(), {"train.lrr": 1})


def test_params_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Params().train.lr = 1.0


def test_loading_params_imports_nothing_heavy():
    code = """if True:
        import sys
        from src import params
        params.load()
        print([name for name in ("torch", "mlflow", "optuna", "sklearn", "pandas", "dvc") if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_command_exits_with_2_and_one_clear_message(workspace):
    Path("params.yaml").write_text("train: {lr: fast}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "stages.prepare"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "error: params.yaml has 1 mistake:\n  train.lr = 'fast': must be a valid number\n"


def test_what_fits_an_inferred_task_is_checked_once_it_is_known():
    waiting = changed(Params(), {"task": "auto", "train.monitor": "r2"})
    assert params.settled(waiting, "regression").task == "regression"
    assert params.settled(waiting, "regression").loss == "mse"
    with pytest.raises(InputError, match=r"train.monitor = 'r2' is no metric of binary"):
        params.settled(waiting, "binary")
    assert params.settled(Params(), "binary").task == "classification"
