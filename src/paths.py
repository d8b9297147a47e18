"""The file names that dvc.yaml states too, and the project root.

Names are relative to the workspace, the folder a stage runs in. Under `dvc exp run --temp` and `--queue` that is
a throw-away copy; what must outlive it (the MLflow store, checkpoints, the study) lies under `root()`.
"""

import os
from pathlib import Path

PARAMS = Path("params.yaml")

RAW = Path("data/raw")
PREPARED = Path("data/prepared")
SCHEMA = PREPARED / "schema.json"

MODELS = Path("models")
WEIGHTS = MODELS / "model.safetensors"
SPEC = MODELS / "model.json"
RUN = MODELS / "run.json"

REPORTS = Path("reports")
HISTORY = REPORTS / "history.csv"
DATA_REPORT = REPORTS / "data.html"
COLUMNS = REPORTS / "columns.csv"
TABLES = REPORTS / "tables"
PICTURES = REPORTS / "plots"


def root() -> Path:
    """The project's own folder. DVC names it in DVC_ROOT, also from inside a temporary workspace."""
    return Path(os.environ.get("DVC_ROOT") or ".").resolve()


def open_runs() -> Path:
    """Where the processes that have an MLflow run open hold its lock."""
    return root() / "models" / "open_runs"


def checkpoints() -> Path:
    """Where trainings keep their checkpoints, one folder a fingerprint; neither git nor DVC looks there."""
    return root() / "models" / "checkpoints"
