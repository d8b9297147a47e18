"""The search: ask for values, train with them, report each epoch, tell the result."""

import time
from collections.abc import Iterator

from optuna.study import Study
from optuna.trial import TrialState

from src import params as all_params
from src.errors import RunError
from src.params import Params
from src.tracking.sweep import Sweep, Trial
from src.training import Data, Progress, train
from src.tune import space, study


def search(running: Study, params: Params, data: Data, total: int, sweep: Sweep) -> Iterator[Trial]:
    """Run trials until `total` have finished, over all calls, yielding each that this call runs."""
    study.requeue(running, sweep.forget)
    for _ in range(total - len(study.finished(running))):
        yield run_trial(running, params, data, sweep)


def run_trial(running: Study, params: Params, data: Data, sweep: Sweep) -> Trial:
    """One trial: trained like the train stage would, told to the study, shown in MLflow."""
    asked = running.ask()
    values = space.suggest(asked, params)
    asked.set_user_attr("values", values)
    changed = all_params.changed(params, values)
    started, records, progress, error = time.time(), [], Progress(), None
    state = TrialState.COMPLETE
    try:
        for epoch in train(changed, data):
            progress = progress.after(epoch, params.train.monitor)
            records.append({**epoch.record(), "time": time.time()})
            asked.report(epoch.val[params.train.monitor], epoch.number)
            if asked.should_prune() and epoch.number < params.train.epochs:
                state = TrialState.PRUNED
                break
    except RunError as failure:  # a loss that is not finite ends this trial, not the search
        state, error = TrialState.FAIL, str(failure)
    if state == TrialState.COMPLETE and progress.best is None:
        state, error = TrialState.FAIL, f"{params.train.monitor} was not a number in any epoch"
    if error:
        asked.set_user_attr("error", error)
    else:
        asked.set_user_attr("best_epoch", progress.best_epoch)
    shown = Trial(asked.number, values, changed, state.name.lower(), started, records, progress.best, error)
    # on disk for MLflow first: a trial that the study counts is one that MLflow will have
    sweep.log(shown)
    running.tell(asked, progress.best if state == TrialState.COMPLETE else None, state)
    study.seal(params)
    return shown
