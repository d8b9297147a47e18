import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as reference

from src.metrics import METRICS, best_threshold, better, confusion, decisions, measure, measure_each, of_task

ROWS = st.integers(2, 60)
TIED = st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0])
CLOSE_OR_FAR = st.one_of(TIED, st.floats(-1e3, 1e3, width=32))
CASES = [(name, task) for name, metric in METRICS.items() if metric.function for task in metric.tasks]


@st.composite
def classified(draw):
    """Logits [N, classes] with many ties, and class numbers [N]."""
    rows, classes = draw(ROWS), draw(st.integers(2, 5))
    outputs = draw(arrays.arrays(np.float32, (rows, classes), elements=CLOSE_OR_FAR))
    targets = draw(arrays.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    return torch.from_numpy(outputs), torch.from_numpy(targets)


@st.composite
def ranked(draw):
    """Logits [N] with many ties, and targets [N] that hold both 0.0 and 1.0."""
    rows = draw(ROWS)
    outputs = draw(arrays.arrays(np.float32, rows, elements=CLOSE_OR_FAR))
    targets = draw(arrays.arrays(np.float32, rows, elements=st.sampled_from([0.0, 1.0])))
    assume(0 < targets.sum() < rows)
    return torch.from_numpy(outputs), torch.from_numpy(targets)


@st.composite
def numeric(draw):
    """Outputs and targets [N]; the targets are not all the same."""
    rows = draw(ROWS)
    outputs, targets = (draw(arrays.arrays(np.float32, rows, elements=CLOSE_OR_FAR)) for _ in range(2))
    assume(np.ptp(targets) > 1e-3)
    return torch.from_numpy(outputs), torch.from_numpy(targets)


@given(classified())
def test_classification_metrics_equal_scikit_learn(case):
    outputs, targets = case
    predicted = outputs.numpy().argmax(1)
    found = measure("classification", outputs, targets)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, predicted))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(targets, predicted, average="macro"))


@given(ranked())
def test_binary_metrics_equal_scikit_learn(case):
    outputs, targets = case
    found = measure("binary", outputs, targets)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, outputs.numpy() > 0))
    assert found["f1"] == pytest.approx(reference.f1_score(targets, outputs.numpy() > 0))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(targets, outputs.numpy() > 0))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(targets, outputs))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(targets, outputs))


@given(numeric(), st.sampled_from(["regression", "robust_regression"]), st.floats(0.01, 100))
def test_regression_metrics_equal_scikit_learn_in_the_targets_own_unit(case, task, scale):
    outputs, targets = case
    found = measure(task, outputs, targets, lambda values: values.double() * scale)
    outputs, targets = outputs.double().numpy() * scale, targets.double().numpy() * scale
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(targets, outputs))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(targets, outputs))
    assert found["r2"] == pytest.approx(reference.r2_score(targets, outputs), rel=1e-9, abs=1e-9)


@given(classified())
def test_confusion_equals_scikit_learn(case):
    outputs, targets = case
    predicted = outputs.numpy().argmax(1)
    wanted = reference.confusion_matrix(targets, predicted, labels=range(outputs.shape[1]))
    assert confusion(outputs, targets).tolist() == wanted.tolist()


def right_and_wrong(task):
    """(right outputs, wrong outputs, targets)."""
    if task == "classification":
        targets = torch.arange(12) % 3
        return torch.eye(3)[targets] * 9, torch.eye(3)[(targets + 1) % 3] * 9, targets
    if task == "binary":
        targets = (torch.arange(12) % 3 == 0).float()
        return targets * 18 - 9, 9 - targets * 18, targets
    targets = torch.linspace(-2, 2, 12)
    return targets, -targets, targets


@pytest.mark.parametrize(("name", "task"), CASES)
def test_right_outputs_are_better_than_wrong_ones(name, task):
    right, wrong, targets = right_and_wrong(task)
    best, worst = measure(task, right, targets)[name], measure(task, wrong, targets)[name]
    assert better(name, best, worst)
    assert not better(name, worst, best)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_order_of_the_rows_does_not_matter(name, task):
    generator = torch.Generator().manual_seed(3)
    outputs, _, targets = right_and_wrong(task)
    outputs = outputs + 9 * torch.randn(outputs.shape, generator=generator)
    order = torch.randperm(len(targets), generator=generator)
    assert measure(task, outputs[order], targets[order])[name] == pytest.approx(measure(task, outputs, targets)[name])


@pytest.mark.parametrize("task", ["classification", "binary", "regression", "robust_regression"])
def test_measure_gives_every_metric_of_the_task_but_the_loss(task):
    right, _, targets = right_and_wrong(task)
    found = measure(task, right, targets)
    assert ["loss", *found] == of_task(task)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize("task", ["classification", "binary", "regression", "robust_regression"])
def test_networks_measured_together_have_the_numbers_of_each(task):
    right, wrong, targets = right_and_wrong(task)
    generator = torch.Generator().manual_seed(4)
    outputs = torch.stack([right, wrong, right + 9 * torch.randn(right.shape, generator=generator), 0 * right])
    together = measure_each(task, outputs, targets)
    for own, alone in zip(together, (measure(task, each, targets) for each in outputs), strict=True):
        assert own == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
@given(value=st.floats(allow_nan=False), best=st.floats(allow_nan=False))
def test_better_follows_the_goal(name, value, best):
    wins = value < best if METRICS[name].goal == "minimise" else value > best
    assert better(name, value, best) is wins
    assert better(name, value, None) is True


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("best", [None, 0.0, math.inf, -math.inf])
def test_nan_is_never_better(name, best):
    assert not better(name, math.nan, best)


@given(ranked(), st.sampled_from(["accuracy", "balanced_accuracy", "f1"]))
def test_no_threshold_is_better_than_the_chosen_one(case, name):
    outputs, targets = case
    threshold = best_threshold(name, outputs, targets)
    assert 0 < threshold < 1
    reached = measure("binary", decisions(outputs, threshold), targets)[name]
    borders = sorted({*outputs.double().tolist()})
    for low, high in itertools.pairwise(borders):
        if abs(low + high) / 2 < 30:
            other = measure("binary", outputs.double() - (low + high) / 2, targets)[name]
            assert reached >= other - 1e-9


@given(ranked())
def test_a_half_decides_as_the_sign_of_the_logit(case):
    outputs, targets = case
    assert torch.equal(decisions(outputs, 0.5), outputs.double())
    half, plain = (measure("binary", values, targets) for values in (decisions(outputs, 0.5), outputs))
    assert half == plain


def test_one_score_or_one_class_leaves_the_threshold_at_a_half():
    assert best_threshold("f1", torch.zeros(4), torch.tensor([0.0, 1, 0, 1])) == 0.5
    assert best_threshold("balanced_accuracy", torch.arange(4.0), torch.ones(4)) == 0.5


def test_goals_are_those_of_the_field():
    minimised = {name for name, metric in METRICS.items() if metric.goal == "minimise"}
    assert minimised >= {"loss", "rmse", "mae"}
    assert not minimised & {"accuracy", "macro_f1", "roc_auc", "average_precision", "r2"}


def test_a_metric_that_the_targets_leave_undefined_is_nan():
    outputs = torch.tensor([0.1, 0.2, -0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(measure("binary", outputs, torch.ones(3))["roc_auc"])
        assert math.isnan(measure("binary", outputs, torch.zeros(3))["average_precision"])
        assert math.isnan(measure("regression", outputs, torch.full((3,), 2.0))["r2"])
