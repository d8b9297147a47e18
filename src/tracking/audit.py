"""What MLflow says of the runs of this project, against what this project knows of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src import files
from src.errors import InputError
from src.sections import Tracking
from src.tracking import lineage, outbox, run, store
from src.tracking.history import History, Steps
from src.tracking.logged import KEY, by_key, is_there
from src.tracking.replica import losses_of, step_points
from src.tracking.sender import Sender
from src.tracking.whole import metrics_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Curve(NamedTuple):
    """A run's curves against the durable history: points that MLflow lacks, and those that it has more than once."""

    name: str
    run_id: str
    points: int
    missing: int
    repeated: int


def stale(client: MlflowClient, tracking: Tracking) -> list[Run]:
    """Runs of this project on this machine that are RUNNING in MLflow, that no process has open, and of which nothing
    waits to be told."""
    mine = f"attributes.status = 'RUNNING' and tags.`{lineage.HOME}` = '{lineage.home()}'"
    found = client.get_experiment_by_name(tracking.experiment)
    return [one for one in _every(client, [found.experiment_id], mine) if not is_known(one)] if found else []


def is_known(one: Run) -> bool:
    """Whether a process has a run open, or its outbox knows more of it than MLflow."""
    return outbox.Outbox(one.data.tags.get(KEY, "none")).header_path.exists()


def end(client: MlflowClient, left: Run) -> None:
    """Say of a run that nobody has open that it was KILLED, when MLflow heard last of it."""
    times = [metric.timestamp for metric in left.data._metric_objs]
    client.set_terminated(left.info.run_id, "KILLED", max(times, default=left.info.start_time))


def curve(client: MlflowClient, tracking: Tracking, folder: Path) -> Curve | None:
    """The run of the training in `folder` against its history; None where MLflow has no such run. InputError when
    either is damaged."""
    if not (folder / run.NOTE).exists():
        return None
    note = files.read_sealed(folder / run.NOTE)
    found = client.get_experiment_by_name(tracking.experiment)
    if found is None:
        return None
    experiment_id, run_id = found.experiment_id, note["run_id"]
    if run_id is None:  # it was killed before it knew
        named = by_key(client, experiment_id, note["key"])
        run_id = named[0].info.run_id if named else None
    if run_id is None or not is_there(client, run_id, experiment_id):
        return None
    count = step_points(client.get_run(run_id).data.params, tracking.step_points)
    metrics = [metric for record in History(folder).read()[0] for metric in metrics_of(record)]
    metrics += [metric for record in Steps(folder).read()[0] for metric in losses_of(record, count)]
    wanted = [(metric.key, metric.step) for metric in metrics]
    there: Counter[tuple[str, int]] = Counter()
    for key in {key for key, _ in wanted}:
        there.update((key, metric.step) for metric in client.get_metric_history(run_id, key))
    missing = sum(point not in there for point in wanted)
    return Curve(note["name"], run_id, len(wanted), missing, sum(count > 1 for count in there.values()))


def resend(tracking: Tracking, folder: Path) -> None:
    """Have MLflow told of all epochs of a training again; those that it has stay as they are."""
    note = files.read_sealed(folder / run.NOTE)
    here = {"tracking_uri": store.redact(store.uri(tracking)), "experiment": tracking.experiment}
    facts = {**note, **here, "origin": None, "parent": None, "tags": {}, "params": {}, "history": run.place(folder)}
    with outbox.opened(facts) as box:
        box.say("tags", values={"history.sent_again": "true"})
    sync(tracking)


def sync(tracking: Tracking, say: Callable[[str], None] = lambda _: None, adopt: bool = False) -> None:
    """Tell MLflow all that waits. InputError when the store cannot be reached, or fails on the way.

    adopt: what waits for other stores, too; it goes to this one."""
    outbox.bury()
    if adopt:
        here = {"tracking_uri": store.redact(store.uri(tracking)), "experiment": tracking.experiment}
        for box in elsewhere(tracking):
            header = box.header
            with outbox.opened({**header, "origin": header["tracking_uri"], **here}):
                pass
    sender, refused = Sender(tracking), []
    waiting = sender.waiting()
    if waiting:
        sender.connect()  # a store that is down is told once, and not for each run
    for count, box in enumerate(waiting, start=1):
        say(f"run {count} of {len(waiting)}: {box.header['name']}")
        try:
            if run_id := sender.send_other(box):
                say(f"its id: {run_id}")
        except Exception as error:  # MLflow lets through whatever its server or its database raises
            refused.append(f"{box.path}: {store.reason(error)}")
    if refused:
        raise InputError("\n  ".join([f"MLflow could not be told of {len(refused)} runs, which are kept:", *refused]))


def elsewhere(tracking: Tracking) -> list[outbox.Outbox]:
    """The outboxes of other stores that no process has open."""
    here, others = store.redact(store.uri(tracking)), []
    for box in outbox.found():
        with suppress(InputError):  # damaged, which src.doctor tells
            if box.header["tracking_uri"] != here and not outbox.is_held(box):
                others.append(box)
    return others


def _every(client: MlflowClient, experiments: list[str], wanted: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(experiments, wanted, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
