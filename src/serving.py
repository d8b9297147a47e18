"""The served model: raw rows in, predictions out. MLflow runs this file as it is (models from code)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from src import metrics, model_file
from src.data import check, encoding
from src.data.schema import Schema

CHUNK = 8192  # rows through the network at once


class Predictor:
    """A trained model from its folder, on the CPU."""

    def __init__(self, folder: Path | str) -> None:
        self.trained = model_file.load(Path(folder))

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """One prediction a row, in the target's own classes or unit.

        rows: the feature columns under their names, as in the source; others are ignored.
        Returns `prediction`, and `probability_<class>` for each class. InputError for rows that do not fit: a column
        that is missing, a value of another kind. A UserWarning names those unlike the training rows.
        """
        schema = self.trained.schema
        inputs = torch.from_numpy(encoding.encode(rows, schema.columns)).reshape(len(rows), *schema.shape)
        for line in check.unlike(rows, schema.columns):
            warnings.warn(line, UserWarning, stacklevel=2)
        with torch.no_grad():
            parts = [self.trained.network(part) for part in inputs.split(CHUNK)]
        outputs = torch.cat(parts) if parts else torch.zeros(0, schema.outputs)
        return table(outputs, schema, self.trained.threshold).set_index(rows.index)


def table(outputs: torch.Tensor, schema: Schema, threshold: float = 0.5) -> pd.DataFrame:
    """Outputs of a network ([N, classes] or [N]) as predictions, one row each.

    threshold: the probability above which the positive class of a binary task is predicted.
    """
    classes = schema.target.classes
    if classes is None:
        return pd.DataFrame({"prediction": schema.target.in_unit(outputs).numpy()})
    if outputs.ndim == 2:
        probabilities = outputs.double().softmax(1).numpy()
        chosen = probabilities.argmax(1)
    else:
        positive = outputs.double().sigmoid().numpy()
        probabilities = np.stack([1 - positive, positive], axis=1)
        chosen = metrics.predicted(metrics.decisions(outputs, threshold)).numpy()
    columns = {f"probability_{name}": probabilities[:, index] for index, name in enumerate(classes)}
    names = np.array(classes, dtype=object)[chosen]
    return pd.DataFrame({"prediction": pd.Series(names).infer_objects(), **columns})


def _register() -> None:
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    class Served(PythonModel):
        def load_context(self, context: Any) -> None:
            self.predictor = Predictor(Path(context.artifacts["spec"]).parent)

        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
            return self.predictor.predict(model_input)

    set_model(Served())


# MLflow runs this file under a name of its own choosing; imported as src.serving it is a plain module
if __name__ != "src.serving":
    _register()
