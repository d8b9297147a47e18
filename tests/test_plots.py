import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from src import plots

CANCER, DIABETES = load_breast_cancer(as_frame=True).frame, load_diabetes(as_frame=True).frame
SCORES, POSITIVE = -CANCER["mean radius"].to_numpy(), CANCER["target"].to_numpy()
TARGETS = DIABETES["target"].to_numpy()
GUESSES = 150 + 900 * DIABETES["bmi"].to_numpy()
COUNTS = np.array([[10, 2], [0, 7]])
RECORDS = [{"epoch": epoch, "train/loss": 1 / epoch, "val/loss": 1 / epoch + 0.1} for epoch in range(1, 9)]

FIGURES = {
    "confusion": lambda: plots.confusion(COUNTS, ["no", "yes"]),
    "many_classes": lambda: plots.confusion(np.eye(30, dtype=int), [f"class number {n}" for n in range(30)]),
    "roc": lambda: plots.roc(SCORES, POSITIVE),
    "precision_recall": lambda: plots.precision_recall(SCORES, POSITIVE),
    "residuals": lambda: plots.residuals(GUESSES, TARGETS),
    "prediction": lambda: plots.predicted_against_actual(GUESSES, TARGETS),
    "curves": lambda: plots.curves(RECORDS, 8),
    "one_epoch": lambda: plots.curves(RECORDS[:1], 1),
}


def test_figures_are_png_and_equal_results_are_equal_bytes(tmp_path):
    for folder in ("first", "second"):
        written = plots.write(tmp_path / folder, {name: make() for name, make in FIGURES.items()})
        assert [path.name for path in written] == [f"{name}.png" for name in FIGURES]
    for name in FIGURES:
        first, second = ((tmp_path / folder / f"{name}.png").read_bytes() for folder in ("first", "second"))
        assert first.startswith(b"\x89PNG\r\n\x1a\n"), name
        assert first == second, name
    assert len({(tmp_path / "first" / f"{name}.png").read_bytes() for name in FIGURES}) == len(FIGURES)


def test_no_window_is_opened_and_nothing_is_left_to_close():
    import matplotlib.pyplot

    for make in FIGURES.values():
        make()
    assert matplotlib.pyplot.get_fignums() == []


def test_the_matrix_shows_actual_down_and_predicted_across():
    axes = FIGURES["confusion"]().axes[0]
    assert {text.get_position(): text.get_text() for text in axes.texts} == {(0, 0): "10", (1, 0): "2", (1, 1): "7"}
    assert np.allclose(axes.images[0].get_array(), [[10 / 12, 2 / 12], [0, 1]])


def test_residuals_are_target_minus_prediction():
    points = FIGURES["residuals"]().axes[0].collections[0].get_offsets()
    assert np.allclose(points, np.column_stack([GUESSES, TARGETS - GUESSES]))


def test_curves_show_both_losses_and_mark_the_best_epoch():
    train, val, best = FIGURES["curves"]().axes[0].lines
    assert list(train.get_ydata()) == [record["train/loss"] for record in RECORDS]
    assert list(val.get_ydata()) == [record["val/loss"] for record in RECORDS]
    assert set(best.get_xdata()) == {8}


@pytest.mark.parametrize("name", ["roc", "precision_recall"])
def test_the_legend_has_the_area_under_the_curve(name):
    from sklearn import metrics

    area = {"roc": metrics.roc_auc_score, "precision_recall": metrics.average_precision_score}[name]
    legend = FIGURES[name]().axes[0].get_legend().get_texts()[0].get_text()
    assert legend.split()[-1] == f"{area(POSITIVE, SCORES):.3f}"
