"""The numbers, tables and pictures of the validate and evaluate stages, by the same `evaluate` as in training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src import device, files, losses, metrics, plots
from src.data.batches import Batches
from src.data.prepared import Split
from src.data.schema import Schema
from src.errors import RunError
from src.loop import evaluate
from src.model_file import Trained
from src.params import Params

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Result:
    """What a trained model gave on one split: `outputs`, `targets` (on the CPU) and `metrics`, the loss first.
    `decisions` are the outputs, moved so that the threshold is at 0 where there is one."""

    def __init__(self, params: Params, trained: Trained, split: Split) -> None:
        where = device.select(params.train.device)
        self.schema: Schema = trained.schema
        task = self.schema.task
        loss = losses.build(params.loss, params.train, self.schema.target).to(where)
        # batches and threads as in training: the numbers of the best epoch come out the same, to the bit
        size, scale = trained.batch_size, self.schema.scale
        fits = device.fits(split.inputs, where, params.train.resident_gb)
        batches = Batches(split.inputs, split.targets, size, scale=scale, device=where, fits=fits)
        device.set_threads(trained.network, trained.schema.shape, size)
        autocast = device.autocast(params.train.precision, where)
        outputs, targets, mean = evaluate(device.place(trained.network, where), batches, loss, autocast)
        self.outputs, self.targets, self.rows = outputs.cpu(), targets.cpu(), split.rows
        self.threshold = trained.threshold
        self.decisions = metrics.decisions(self.outputs, self.threshold) if task == "binary" else self.outputs
        measured = metrics.measure(task, self.decisions, self.targets, in_unit=self.schema.target.in_unit)
        self.metrics = {"loss": mean, **measured}

    def write_tables(self, folder: Path) -> list[Path]:
        """predictions.csv, and for classes per_class.csv; returns their paths."""
        tables = {"predictions": self.predictions(), "per_class": self.per_class()}
        written = []
        for name, table in tables.items():
            if len(table):
                written.append(folder / f"{name}.csv")
                files.write_bytes(written[-1], table.to_csv(index=False).encode())
        return written

    def predictions(self) -> pd.DataFrame:
        """One line a row: its number in the source, the actual value, the prediction and any probabilities."""
        from src import serving

        table = serving.table(self.outputs, self.schema, self.threshold)
        table.insert(0, "row", self.rows.numpy())
        table.insert(1, "actual", self._actual())
        return table

    def per_class(self) -> pd.DataFrame:
        """Precision, recall, F1 and support of each class; empty for a regression."""
        import pandas as pd

        if self.schema.target.classes is None:
            return pd.DataFrame()
        counts = metrics.confusion(self.decisions, self.targets).double()
        hits, actual, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        return pd.DataFrame(
            {
                "class": self.schema.target.classes,
                "precision": hits / predicted.clamp(min=1),
                "recall": hits / actual.clamp(min=1),
                "f1": 2 * hits / (actual + predicted).clamp(min=1),
                "support": actual.long(),
            }
        )

    def figures(self) -> dict[str, Figure]:
        """The pictures that suit the task, by file name."""
        classes, targets = self.schema.target.classes, self.targets.numpy()
        if classes is None:
            values = self.schema.target.in_unit(self.outputs).numpy()
            actual = self._actual()
            return {
                "residuals": plots.residuals(values, actual),
                "prediction": plots.predicted_against_actual(values, actual),
            }
        counts = metrics.confusion(self.decisions, self.targets).numpy()
        found = {"confusion": plots.confusion(counts, classes)}
        if self.schema.task == "binary":
            scores = self.outputs.numpy()
            found |= {
                "roc": plots.roc(scores, targets),
                "precision_recall": plots.precision_recall(scores, targets),
            }
        return found

    def _actual(self) -> np.ndarray:
        target = self.schema.target
        if target.classes is None:
            return target.in_unit(self.targets).numpy()
        return np.array(target.classes, dtype=object)[self.targets.long().numpy()]


def check_minimum(measured: dict[str, float], minimum: dict[str, float]) -> None:
    """The gate. RunError when a metric is worse than its bound: below it, or above where smaller is better."""
    failed = [
        f"{name} is {measured[name]:.4g}, the bound is {bound:g}"
        for name, bound in minimum.items()
        if not (measured[name] == bound or metrics.better(name, measured[name], bound))
    ]
    if failed:
        raise RunError(
            f"validate.minimum is not met: {'; '.join(failed)}. The test split was not opened. "
            "Train a better model, or change validate.minimum"
        )


def summary(report: dict[str, Any]) -> str:
    """The metrics of a report in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in report.items() if isinstance(value, float))
