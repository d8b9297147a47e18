"""Pictures of what validate and evaluate measured, as PNG. Each function gives a matplotlib figure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, ORANGE = "#1f5fa8", "#8a8f98", "#c25b12"


def confusion(counts: np.ndarray, classes: list[Any]) -> Figure:
    """counts: [actual, predicted]. Colour is the share within the actual class, so that rare classes show."""
    figure, axes = _axes("Confusion matrix", "predicted", "actual", size=max(4.5, 0.5 * len(classes)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(classes))
    axes.set_xticks(ticks, [str(name) for name in classes], rotation=45 if len(str(classes)) > 60 else 0)
    axes.set_yticks(ticks, [str(name) for name in classes])
    if len(classes) <= 25:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    return figure


def roc(scores: np.ndarray, targets: np.ndarray) -> Figure:
    """scores: any that grow with the positive class [N]; targets: 0 or 1 [N]."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(targets, scores)
    figure, axes = _axes("ROC", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(false, true, color=BLUE, label=f"area {roc_auc_score(targets, scores):.3f}")
    axes.legend(loc="lower right")
    return figure


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> Figure:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(targets, scores)
    figure, axes = _axes("Precision and recall", "recall", "precision")
    axes.axhline(targets.mean(), color=GREY, linestyle=":")
    axes.step(
        recall,
        precision,
        where="post",
        color=BLUE,
        label=f"average {average_precision_score(targets, scores):.3f}",
    )
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower left")
    return figure


def residuals(predictions: np.ndarray, targets: np.ndarray) -> Figure:
    """Both in the target's own unit [N]."""
    figure, axes = _axes("Residuals", "prediction", "target - prediction")
    axes.axhline(0, color=GREY, linestyle=":")
    axes.scatter(predictions, targets - predictions, s=12, alpha=0.6, color=BLUE)
    return figure


def predicted_against_actual(predictions: np.ndarray, targets: np.ndarray) -> Figure:
    figure, axes = _axes("Prediction against target", "target", "prediction")
    ends = [min(targets.min(), predictions.min()), max(targets.max(), predictions.max())]
    axes.plot(ends, ends, color=GREY, linestyle=":")
    axes.scatter(targets, predictions, s=12, alpha=0.6, color=BLUE)
    return figure


def curves(records: list[dict[str, float]], best_epoch: int) -> Figure:
    """Training and validation loss by epoch, the best epoch marked."""
    figure, axes = _axes("Loss", "epoch", "loss")
    for name, colour in (("train/loss", GREY), ("val/loss", BLUE)):
        axes.plot(
            [record["epoch"] for record in records],
            [record[name] for record in records],
            color=colour,
            label=name,
        )
    axes.axvline(best_epoch, color=GREY, linestyle=":", label=f"best epoch {best_epoch}")
    axes.legend()
    return figure


def distribution(name: str, labels: list[str], shares: Mapping[Any, list[float]]) -> Figure:
    """Shares of the rows of each split, by the bars' labels."""
    figure, axes = _axes("Target by split", name, "share of the rows", size=max(4.5, 0.3 * len(labels)))
    places = np.arange(len(labels))
    for number, (split, own) in enumerate(shares.items()):
        axes.bar(places + 0.27 * (number - 1), own, 0.27, label=split, color=(GREY, BLUE, ORANGE)[number])
    every = max(1, len(labels) // 10)
    axes.set_xticks(places[::every], labels[::every], rotation=45 if len("".join(labels[::every])) > 40 else 0)
    axes.legend()
    return figure


def write(folder: Path, figures: dict[str, Figure]) -> list[Path]:
    """Save figures as PNG without the time they were made, so that equal results give equal files."""
    written = []
    for name, figure in figures.items():
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
        written.append(folder / f"{name}.png")
        files.write_bytes(written[-1], image.getvalue())
    return written


def _axes(title: str, across: str, up: str, size: float = 4.5) -> tuple[Figure, Any]:
    # without pyplot: no global state, no window, nothing to close
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
    return figure, axes
