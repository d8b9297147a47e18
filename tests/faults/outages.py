"""Outages of MLflow under a training: what its durable history holds must be in MLflow at the end, point for point,
each once, whatever happened to the server, to the network and to the training's own processes meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from src.params import Params, changed
from src.tracking import run, store
from src.tracking.history import History
from src.tracking.sender import Sender
from tests.faults.proxy import MODES, Proxy

ROOT = Path(__file__).parents[2]
BAD = tuple(mode for mode in MODES if mode != "pass")
ATTEMPTS = 10  # of a training to end, when nothing is in its way any more
COMPRESSED = 10  # times shorter than in life: the retry schedule, and so the outage that it has to outlast
# A training as MLflow sees it: epochs come into the history, one after another, by the process that has the run open.
TRAINING = """if True:
    import json, sys, time
    from pathlib import Path
    from src import cli
    from src.params import Params, changed
    from src.tracking import courier, run
    from src.tracking.history import History

    uri, key, folder, epochs, seconds, compressed = json.loads(sys.argv[1])
    faster = "import sys; from src.tracking import sender as s; s.PAUSE /= {0}; s.LONGEST /= {0}; sys.exit(s.main())"
    courier.COMMAND[1:] = ["-c", faster.format(compressed)]

    def main():
        params = changed(Params(), {"tracking.uri": uri})
        facts = run.new("outage", {}, params, key) | {"history": folder, "created": 1e9}
        history = History(Path(folder))
        done, _ = history.read()
        with run.Run(facts, params.tracking) as opened:
            opened.set_tags({"begun": str(len(done))})
            for epoch in range(len(done) + 1, epochs + 1):
                time.sleep(seconds)
                loss = 1 / epoch if epoch % 7 else float("nan")
                history.append({"epoch": epoch, "lr": 0.1, "train/loss": 2 / epoch, "val/loss": loss})
            opened.log_metrics({"loss": 0.5}, "test/")

    cli.run(main)
"""


class Training:
    """A training that can be started, killed and gone on with; `key` is its run's."""

    def __init__(self, root: Path, uri: str, key: str, epochs: int, seconds: float) -> None:
        self.folder, self.key, self.uri, self.epochs, self.seconds = root / key, key, uri, epochs, seconds
        self.folder.mkdir(parents=True)
        self.root, self.history = root, History(self.folder)
        self.kills = 0
        self.start()

    def start(self) -> None:
        words = json.dumps([self.uri, self.key, self.key, self.epochs, self.seconds, COMPRESSED])
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "DVC_ROOT": str(self.root),
            "PYTHONPATH": str(ROOT),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, words], cwd=self.root, env=environment, stderr=subprocess.DEVNULL
        )

    def kill(self, chance: random.Random) -> None:
        """SIGKILL for the training, for the process beside it, or for both at once; then it goes on."""
        with suppress(psutil.NoSuchProcess):
            beside = psutil.Process(self.process.pid).children()
            which = chance.choice(["training", "beside", "both"]) if beside else "training"
            for process in [*([self.process] if which != "beside" else []), *(beside if which != "training" else [])]:
                process.send_signal(signal.SIGKILL)
                self.kills += 1
            if which != "beside":
                self.process.wait()
                self.start()


def storm(training: Training, proxy: Proxy, seconds: float, kills: int, seed: int) -> None:
    """Go through all the bad modes in a random order, and kill at random instants; then the way is open again, and the
    training comes to its end."""
    chance = random.Random(seed)
    start, modes = time.monotonic(), chance.sample(BAD, len(BAD))
    times = sorted(chance.uniform(0, seconds) for _ in range(kills))
    while (now := time.monotonic() - start) < seconds:
        proxy.mode = modes[int(now / seconds * len(modes))]
        if times and now > times[0]:
            training.kill(chance)
            times.pop(0)
        time.sleep(0.02)
    proxy.mode = "pass"
    for _ in range(ATTEMPTS):
        if training.process.wait() == 0:
            return
        training.start()
    raise RuntimeError(f"the training fails, though the way to MLflow is open: {training.folder}")


def differences(training: Training) -> list[str]:
    """Send what is left, as the next stage would, and compare MLflow with the durable history."""
    tracking = changed(Params(), {"tracking.uri": training.uri}).tracking
    before = os.environ.get("DVC_ROOT")
    os.environ["DVC_ROOT"] = str(training.root)
    try:
        Sender(tracking).send()
        left = list((training.root / "models/outbox").glob("*/run.json"))
    finally:
        os.environ.pop("DVC_ROOT") if before is None else os.environ.update(DVC_ROOT=before)
    client = store.connect(tracking)
    experiment_id = store.experiment(client, tracking)
    runs = client.search_runs([experiment_id], f"tags.`run.key` = '{training.key}'")
    found = [f"{len(left)} runs wait in the outbox"] * bool(left)
    if [one.info.status for one in runs] != ["FINISHED"]:
        return [*found, f"MLflow has the runs {[(one.info.run_id, one.info.status) for one in runs]}"]
    records = training.history.read()[0]
    if [record["epoch"] for record in records] != list(range(1, training.epochs + 1)):
        found.append("the durable history is not whole")
    for name in ("lr", "train/loss", "val/loss"):
        there = [(one.step, str(one.value)) for one in client.get_metric_history(runs[0].info.run_id, name)]
        here = [(record["epoch"], str(record[name])) for record in records]
        if sorted(there) != sorted(here):
            found.append(f"{name}: MLflow has {len(there)} points, the history {len(here)}")
    if runs[0].data.params != run.new("", {}, changed(Params(), {"tracking.uri": training.uri}))["params"]:
        found.append("the params differ")
    return found
