"""A process that trains the trials it is handed, as lanes of one program where it can (see src/tune/crew.py).

Both sides speak JSON, a line each: the search sends settings, then jobs; this tells of each epoch, and where trials may
be dropped is told which before it goes on.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from src import checkpoints, cli, device, fingerprint, footprint, models
from src.data.prepared import Split
from src.data.schema import Schema
from src.errors import InputError, RunError
from src.fingerprint import Fingerprint
from src.lanes import obstacle
from src.loop import Epoch
from src.params import Params, changed, check, settled
from src.training import Data, Progress, assemble, load_data, sized
from src.tune import kept, objectives
from src.tune.alone import Alone
from src.tune.together import Together, are_of_lanes

PROBED = (4, 16, 64, 256)  # lanes in one program that are tried
STEPS = 12  # in an epoch of a probe
TIMED = 3  # epochs of it
GAIN = 0.9  # of the time of a training alone that lanes must at most take, a lane
MORE = 0.97  # of the time of fewer lanes that more must at most take: these learn less from each other

Program = Together | Alone
heard: "SimpleQueue[str]" = SimpleQueue()  # lines of the search
answers = sys.stdout
said: set[str] = set()  # why trials could not be lanes
known: dict[str, dict[str, float]] = {}  # what networks cost


def programs(
    settings: Sequence[Params], data: Data, folders: Sequence[Path] = ()
) -> Iterator[tuple[list[int], Program]]:
    """What trains all of them, and whose places in `settings` each has: one program, or one each where they cannot be
    lanes, which is said. folders: for their checkpoints."""
    has_some = [bool(checkpoints.found(folder)) for folder in folders]
    if len(set(has_some)) > 1:  # only those that have some can go on from there
        for wanted in (True, False):
            own = [place for place, has in enumerate(has_some) if has == wanted]
            for places, program in programs([settings[at] for at in own], data, [folders[at] for at in own]):
                yield [own[place] for place in places], program
        return
    if len(settings) > 1 or (folders and are_of_lanes(folders[0])):
        entries = [assemble(params, data) for params in settings]
        why = obstacle([trainer for trainer, _, _ in entries])
        if why is None:
            try:
                together = Together(settings, entries, data, folders)
            except ValueError as error:
                why = str(error)
            else:
                trainer, batches, _ = entries[0]
                if batches.device.type == "cpu":
                    device.set_threads(trainer.model, data.schema.shape, batches.sizes[0] * len(settings))
                yield list(range(len(settings))), together
                return
        if why not in said:
            cli.say(f"one trial after the other, not as lanes: {why}")
            said.add(why)
    for place, params in enumerate(settings):
        yield [place], Alone(params, data, folders[place] if folders else None)


def run(job: dict[str, Any], params: Params, data: Data, mark: Fingerprint | None) -> None:
    """Make the trainings of a job (src/tune/trials.py, Job.rounds), at most its `lanes` in one program, telling the
    search each epoch."""
    wanted = {training["number"] for together in job["rounds"] for training in together}
    gone: set[int] = set()  # over, failed, or dropped
    for together in job["rounds"]:
        while left := [training for training in together if training["number"] not in gone][: job["lanes"]]:
            for told in trained(left, params, data, job, gone, mark):
                gone |= {number for number, words in told.items() if "error" in words or words["over"]}
                tell(told=told, done=gone >= wanted)
                if gone >= wanted:
                    return
                if job["answers"]:
                    gone |= set(hear()["drop"])
    tell(told={}, done=True)


def trained(
    trainings: list[dict[str, Any]],
    params: Params,
    data: Data,
    job: dict[str, Any],
    gone: set[int],
    mark: Fingerprint | None,
) -> Iterator[dict[int, Any]]:
    """Make trainings of a job; what an epoch gave, by their numbers. Between two of them the caller may add to `gone`.
    mark: of the params, where the weights of the best epoch of each are to be written."""
    folder, weights = Path(job["folder"]), Path(job["weights"])
    numbers = [training["number"] for training in trainings]
    progress = {number: Progress() for number in numbers}
    best: dict[int, Epoch] = {}
    try:
        settings = [changed(params, training["values"]) for training in trainings]
        for places, program in programs(settings, data, [folder / str(number) for number in numbers]):
            if gone >= {numbers[place] for place in places}:
                continue
            for told in program.fit(settings[places[0]].train.epochs):
                words = {}
                for lane, what in told.items():
                    number, own = numbers[places[lane]], settings[places[lane]]
                    if isinstance(what, RunError):
                        words[number] = {"error": str(what)}
                    else:
                        progress[number] = progress[number].after(what, own.train.monitor)
                        words[number] = in_words(what, progress[number], own, data)
                        if mark and progress[number].best_epoch == what.number:
                            best[number] = what
                            program.note_best(lane)
                        if mark and words[number]["over"] and number in best:
                            where = kept.of_training(weights, number, params.tune.seeds)
                            kept.write(where, own, data, program.best_weights(lane), best[number], mark)
                yield words
                program.drop([lane for lane, place in enumerate(places) if numbers[place] in gone])
    except InputError as error:  # they cannot be trained on this data; others can
        yield {number: {"error": str(error)} for number in numbers if number not in gone}


def in_words(epoch: Epoch, now: Progress, params: Params, data: Data) -> dict[str, Any]:
    """What the search is told of an epoch."""
    is_over = now.is_stopped(params.train.patience) or epoch.number == params.train.epochs
    return {
        "record": {**epoch.record(), "time": time.time()},
        "best_epoch": now.best_epoch,
        "over": is_over,
        "costs": costs(params, data.schema) if is_over else {},
    }


def costs(params: Params, schema: Schema) -> dict[str, float]:
    """Those of tune.objectives that are no metrics, of the network that these params make."""
    names = [name for name in params.tune.objectives if name in objectives.COSTS]
    kind = repr(params.model.model_copy(update={"dropout": 0.0}))  # which does nothing in a prediction
    if names and kind not in known:
        where = device.select(params.train.device)
        with torch.random.fork_rng():  # what else trains here must not notice
            network = models.build(params.model.name, schema.shape, schema.outputs, params.model)
        device.place(network, where)
        known[kind] = {name: objectives.COSTS[name](network, torch.zeros(1, *schema.shape).to(where)) for name in names}
    return known.get(kind, {})


def best_count(params: Params, data: Data, most: int) -> int:
    """How many lanes make the time of a lane shortest, at most `most`, by a few steps with each number of them; 1 where
    lanes win nothing or would take more than half of the memory."""
    size = params.train.batch_size
    assert size != "auto"
    if most == 1:
        return 1
    # as many epochs as are timed, which nothing ends before
    lasting = {"train.epochs": max(params.train.epochs, TIMED), "train.lr": 1e-6, "train.patience": None}
    params = changed(params, lasting)
    few = data._replace(train=head(data.train, STEPS * size), val=head(data.val, STEPS * size))
    trainer, train_batches, val_batches = assemble(params, few)
    # the data is there once for all; weights are there twice: stacked, and as each lane was assembled
    weights, batch, _ = footprint.of(trainer, train_batches, val_batches, size)
    limit = footprint.FILL * device.memory_of(train_batches.device)
    best, shortest = 1, seconds(Alone(params, few))
    most = min(most, PROBED[-1])
    for count in [*(count for count in PROBED if 2 * count <= most), most]:
        if count * (2 * weights + batch) > limit:
            break
        seeds = objectives.abreast(params)
        lanes = [changed(params, {"seed": (params.seed + place % seeds) % 2**32}) for place in range(count)]
        program = next(programs(lanes, few))[1]
        if not isinstance(program, Together):
            break
        try:
            taken = seconds(program) / count
        except RuntimeError as error:  # a network that torch.func cannot take, or more than the memory holds
            cli.say(f"{count} trials cannot be lanes: {str(error).splitlines()[0]}")
            break
        if taken < shortest * (GAIN if best == 1 else MORE):
            best, shortest = count, taken
        elif taken > shortest / GAIN:  # a few may not be worth it yet; these are too many
            break
    return best


def on_own_gpu(params: Params, place: int) -> Params:
    """With several GPUs, and none of them asked for, each worker has its own."""
    count = torch.cuda.device_count()
    return (
        changed(params, {"train.device": f"cuda:{place % count}"})
        if params.train.device == "auto" and count > 1
        else params
    )


def seconds(program: Program) -> float:
    """Those of the fastest of a few epochs: the first one has to warm up, and others may use the machine."""
    taken, start = [], time.perf_counter()
    for _ in islice(program.fit(TIMED), TIMED):
        taken.append(time.perf_counter() - start)
        start = time.perf_counter()
    return min(taken)


def head(split: Split, rows: int) -> Split:
    return split._replace(inputs=split.inputs[:rows], targets=split.targets[:rows])


def tell(**words: Any) -> None:
    print(json.dumps(words), file=answers, flush=True)


def hear() -> dict[str, Any]:
    """The next line of the search."""
    return json.loads(heard.get())


def listen() -> None:
    """Take what the search says; when it is gone, so is this process, in the middle of a step."""
    for line in sys.stdin:
        heard.put(line)
    os._exit(0)


def main() -> None:
    """Until the search has no more to say."""
    global answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    threading.Thread(target=listen, name="search", daemon=True).start()
    asked = hear()
    try:
        data = load_data()
        params = sized(on_own_gpu(settled(check(asked["params"]), data.schema.task), asked["place"]), data)
        # now, as the code may be edited while it searches
        mark = fingerprint.of(params, data.schema) if params.tune.keep else None
        assemble(params, data)  # what is wrong with all trials is no matter of one
        lanes = None if asked["most"] is None else best_count(params, data, asked["most"])
        tell(ready=True, batch_size=params.train.batch_size, lanes=lanes)
        while True:
            run(hear(), params, data, mark)
    except (InputError, RunError) as error:
        tell(failed=str(error), code=cli.BAD_INPUT if isinstance(error, InputError) else 1)
