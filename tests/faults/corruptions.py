"""Files that the project reads, damaged at random: each must be refused or replaced, and none used as it is."""

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import torch

from src import checkpoints, export, files, fingerprint, model_file, paths, saving, training
from src.data import prepared
from src.data import schema as schemas
from src.data.prepare import prepare
from src.errors import InputError
from src.params import Params, changed
from src.tracking import outbox, run
from src.tracking.history import History

WAYS = ("a flipped bit", "a flipped byte", "truncated", "emptied", "garbage inside", "garbage instead")


class Subject(NamedTuple):
    """A kind of file: where it lies, and what reads it. `read` raises InputError, or returns what it took from the
    file, which must then be what the good file holds; other files lie beside it as they should."""

    path: Path
    read: Callable[[], Any]


def make(folder: Path) -> dict[str, Subject]:
    """A real training in `folder`, with all the files that the project reads again; run from inside that folder."""
    params = changed(Params(), {"prepare.source": "wine", "train.epochs": 3, "train.warmup_epochs": 1.0})
    prepare(params)
    data = training.load_data()
    mark = fingerprint.of(params, data.schema)
    place = paths.checkpoints() / mark.digest
    with training.workplace(mark, params.train):
        list(training.train(params, data, place))
        export.export(params, data, place, mark)
    facts = run.new("a run", {"a": "b"}, params, "key")
    with outbox.opened(facts) as box:
        box.say("status", status="RUNNING")
        box.say("metrics", values={"test/loss": 1 / 3})
        box.say("status", status="FINISHED")
    run.Run(facts, params.tracking).write(paths.RUN)
    last = checkpoints.found(place)[-1]
    state = checkpoints.read(last)
    return {
        "checkpoint": Subject(last, lambda: plain(checkpoints.read(last))),
        "its digest": Subject(checkpoints.digest_of(last), lambda: plain(checkpoints.read(last))),
        "history": Subject(History(place).path, lambda: _restored(place, state)),
        "fingerprint": Subject(place / paths.MARK, lambda: files.read_sealed(place / paths.MARK)),
        "model weights": Subject(paths.WEIGHTS, lambda: plain(model_file.load().network.state_dict())),
        "model description": Subject(paths.SPEC, lambda: model_file.load().spec),
        "prepared data": Subject(
            prepared.path_of(paths.PREPARED, "train"), lambda: plain(prepared.load("train", data.schema)._asdict())
        ),
        "schema": Subject(paths.SCHEMA, lambda: schemas.load().model_dump()),
        "run": Subject(paths.RUN, lambda: files.read_sealed(paths.RUN)),
        "outbox, which run": Subject(box.header_path, lambda: box.header),
        "outbox, events": Subject(box.events.path, box.said),
    }


def plain(value: Any) -> Any:
    """Nested values as words that can be compared, tensors by their bytes."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _restored(place: Path, state: checkpoints.State) -> Any:
    """What a training does when it goes on: the checkpoint has the history too."""
    History(place).restore(saving.records(state), lambda _: None)
    return History(place).read()[0]


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file in one of WAYS; returns which. What it held is never left as it was."""
    content = bytearray(path.read_bytes())
    way, place = draw.choice(WAYS), draw.randrange(len(content))
    if way == "a flipped bit":
        content[place] ^= 1 << draw.randrange(8)
    elif way == "a flipped byte":
        content[place] ^= draw.randrange(1, 256)
    elif way == "truncated":
        del content[min(place, len(content) - 2) :]  # not just of the last line's end, which is no content
    elif way == "emptied":
        content.clear()
    elif way == "garbage inside":
        content[place : place + 64] = draw.randbytes(max(1, min(64, len(content) - place)))
    else:
        content[:] = draw.randbytes(draw.randrange(1, 4096))
    path.write_bytes(content)
    return way


def corrupt(subject: Subject, seed: int) -> tuple[str, bool]:
    """Damage the file by a seed, have it read, put it right again: how, and whether the damage was noticed, that is
    refused, or mended to what it was."""
    draw, good = random.Random(seed), subject.path.read_bytes()
    expected = subject.read()
    way = damage(subject.path, draw)
    try:
        noticed = subject.path.read_bytes() == good or same(subject.read(), expected)
    except InputError:
        noticed = True
    finally:
        subject.path.write_bytes(good)
    return way, noticed


def same(one: Any, other: Any) -> bool:
    return json.dumps(one, default=repr, sort_keys=True) == json.dumps(other, default=repr, sort_keys=True)


def all_kinds(folder: Path, count: int, seed: int) -> dict[str, list[tuple[int, str, bool]]]:
    """(seed, way, noticed) of `count` corruptions, as many of each kind of file, in a folder of their own."""
    before = os.environ.get("DVC_ROOT")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with chdir(folder):
            os.environ["DVC_ROOT"] = str(folder)
            subjects = make(folder)
            results: dict[str, list[tuple[int, str, bool]]] = {kind: [] for kind in subjects}
            for number in range(count):
                kind = list(subjects)[number % len(subjects)]
                results[kind].append((seed + number, *corrupt(subjects[kind], seed + number)))
    finally:
        os.environ.pop("DVC_ROOT") if before is None else os.environ.update(DVC_ROOT=before)
    return results
