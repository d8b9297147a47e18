"""The long form of the fault suite: python -m tests.faults [--quick]. Prints a table; exit code 1 when anything was not
survived.

A section is a function of `Options` that yields rows; to add one, write it and list it in SECTIONS.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

from tests.conftest import copy_of_this_project
from tests.faults import corruptions, disk, kills, outages
from tests.faults.kills import BOUNDARIES, Verdict
from tests.faults.proxy import Proxy
from tests.faults.servers import mlflow_server, postgres, why_no_postgres
from tests.faults.table import Options, Row, jobs, markdown, say
from tests.faults.trainings import Workshop

KILLS_EACH = 5  # of one training at random, before it is let finish
SAME = "weights, optimizer, random states, reports and history equal to those of a run without faults, bit for bit"
COMMAND = "python -m tests.faults"


def random_kills(options: Options) -> Iterator[Row]:
    workshop, where = Workshop(options.folder, options.uri), Counter[str]()
    row, told = Row("SIGKILL at a random instant", SAME), in_mlflow("SIGKILL at a random instant")
    seeds = count(options.seed)
    while row.injected < options.kills:
        wanted = min(KILLS_EACH, options.kills)
        several = -(-(options.kills - row.injected) // KILLS_EACH)
        work = partial(kills.random_kills, workshop, kills=wanted)
        for seed, verdict in jobs(lambda seed, work=work: (seed, work(seed)), [next(seeds) for _ in range(several)]):
            counted(verdict, row, told, f"{COMMAND} --section random --seed {seed} --kills {wanted}")
            where += verdict.where
            say(f"{row.injected} of {options.kills} kills; {verdict.name}: {landed(verdict.where)}")
    row.how = f"{landed(where)}; {SAME}; at each death every checkpoint good, the best among them"
    yield from (row, told)


def landed(where: Counter[str]) -> str:
    return ", ".join(f"{times} {words}" for words, times in where.items()) or "none landed"


def boundaries(options: Options) -> Iterator[Row]:
    workshop = Workshop(options.folder, options.uri)
    faults = chosen(options, kills.boundaries(workshop.reference(BOUNDARIES)))
    row, told = Row("SIGKILL before, within or after each fsync, rename, link and removal", SAME), in_mlflow("the same")
    for number, verdict in enumerate(jobs(partial(kills.at_boundary, workshop), faults), start=1):
        counted(verdict, row, told, f"{COMMAND} --section boundaries --fault '{verdict.name}'")
        say(f"{number} of {len(faults)} boundaries; {verdict.name}" + ("" if verdict.kills else ": not reached"))
    row.how = f"{len(faults)} found by listing a run, {len(faults) - row.injected} of them not met again; {SAME}"
    yield from (row, told)


def full_disk(options: Options) -> Iterator[Row]:
    workshop = Workshop(options.folder, options.uri)
    row = Row("A full disk", f"exit code 1, one message, the last checkpoint good; with room again {SAME}")
    real = disk.can_mount(options.folder / "mounted")
    works = [partial(disk.full_disk, workshop, fit) for fit in (1, 2)] if real else []
    for full in jobs(lambda work: work(), [*works, partial(disk.limited_files, workshop)] * (not options.fault)):
        row.count(1, full.wrong, full.name, f"{COMMAND} --section disk")
        say(f"full disk: {full.name}")
    yield row
    row = Row("An fsync that fails with ENOSPC", row.how)
    faults = chosen(options, disk.fsyncs(workshop.reference(BOUNDARIES)))
    for number, full in enumerate(jobs(partial(disk.planted, workshop), faults), start=1):
        row.count(full.met, full.wrong, full.name, f"{COMMAND} --section disk --fault '{full.name}'")
        say(f"{number} of {len(faults)} failing fsyncs; {full.name}" + ("" if full.met else ": not reached"))
    yield row


def corrupted(options: Options) -> Iterator[Row]:
    count = options.corruptions
    row = Row("A file damaged at random", "")
    for kind, results in corruptions.all_kinds(options.folder / "corrupted", count, options.seed).items():
        for seed, way, noticed in results:
            again = f"{COMMAND} --section corruptions --seed {seed} --corruptions 1"
            row.count(1, [] if noticed else [f"{way}, and used"], f"{kind}, seed {seed}", again)
        say(f"{kind}: {sum(noticed for *_, noticed in results)} of {len(results)} noticed")
    row.how = "flipped, cut, emptied, garbage; in every kind of file that is read again: refused or mended, never used"
    yield row


def broken_ways(options: Options) -> Iterator[Row]:
    """Outages with kills in them. Time is compressed: a quicker retry schedule, and an outage that much shorter."""
    minutes = 1 if options.quick else 10
    seconds = minutes * 60 / outages.COMPRESSED
    row = Row(f"A {minutes}-minute outage of MLflow, with SIGKILLs in it", "")
    for number in range(1 if options.quick else 3):
        seed = options.seed + number
        with ExitStack() as stack:
            between = stack.enter_context(Proxy(server_port(options, stack, f"outage-{seed}")))
            root = options.folder / f"outage-{seed}"
            training = outages.Training(root, between.url, f"outage-{seed}", epochs=300, seconds=seconds / 400)
            time.sleep(seconds / 10)
            outages.storm(training, between, seconds, kills=5, seed=seed)
            wrong = outages.differences(training)
            requests = sum(count for mode, count in between.counts.items() if mode != "pass")
        row.count(1, wrong, f"seed {seed}", f"{COMMAND} --section outages --seed {seed}")
        say(f"outage {number + 1}: {training.kills} kills, {requests} requests that failed; {wrong or 'all is there'}")
    row.how = f"{minutes} minutes compressed {outages.COMPRESSED} times; down, hung, reset, 500, half-open, lost, cut, "
    row.how += "slow; MLflow equals the durable history, point for point, each once"
    yield row


def server_port(options: Options, stack: ExitStack, name: str) -> int:
    folder = options.folder / f"server-{name}"
    folder.mkdir()
    uri = (
        stack.enter_context(postgres(folder)) if options.store == "postgresql" else f"sqlite:///{folder / 'mlflow.db'}"
    )
    return stack.enter_context(mlflow_server(folder, uri)).port


def chosen(options: Options, faults: list[str]) -> list[str]:
    if options.fault:
        return [options.fault] * (options.fault.split()[0] == faults[0].split()[0])  # each section plants its own
    return kills.representative(faults, each_moment=not options.quick)


def in_mlflow(kind: str) -> Row:
    return Row(f"{kind}: what MLflow has", "one FINISHED run, none RUNNING, each epoch once")


def counted(verdict: Verdict, row: Row, told: Row, again: str) -> None:
    row.count(verdict.kills, verdict.wrong, verdict.name, again)
    told.count(verdict.kills, verdict.untold, verdict.name, again)
    for word in verdict.wrong + verdict.untold:
        say(f"NOT SURVIVED {verdict.name}: {word}")


SECTIONS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "random": random_kills,
    "boundaries": boundaries,
    "disk": full_disk,
    "corruptions": corrupted,
    "outages": broken_ways,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Inject faults into real trainings and compare.")
    parser.add_argument("--seed", type=int, default=0, help="of the first training (default 0)")
    parser.add_argument("--kills", type=int, help="SIGKILLs at random instants, at least (default 100, quick 10)")
    parser.add_argument("--corruptions", type=int, help="of files (default 1000, quick 110)")
    parser.add_argument(
        "--store",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="what MLflow keeps its runs in: a file in each project, or PostgreSQL behind one MLflow server",
    )
    parser.add_argument("--quick", action="store_true", help="one fault of each kind")
    parser.add_argument("--section", action="append", choices=SECTIONS, help="only this one (may be repeated)")
    parser.add_argument("--fault", help="only this one, as a line of an earlier run names it")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # this is the copy, and works there
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if given.folder:
        sys.exit(report(given))
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        # in a copy, so that the code may be changed meanwhile: that would be another training
        copy = copy_of_this_project(Path(folder) / "code").path
        again = [sys.executable, "-m", "tests.faults", *sys.argv[1:], "--folder", folder]
        process = subprocess.Popen(again, cwd=copy)
        try:
            sys.exit(process.wait())
        finally:
            process.terminate()  # it ends the servers that it has started
            process.wait()


def report(given: argparse.Namespace) -> int:
    """Run the sections, print the table and what was not survived; the exit code."""
    at_random = given.kills or (10 if given.quick else 100)
    damages = given.corruptions or (110 if given.quick else 1000)
    options = Options(given.seed, at_random, damages, given.quick, given.fault, given.folder, given.store)
    rows: list[Row] = []
    with ExitStack() as stack:
        if given.store == "postgresql":
            if reason := why_no_postgres():
                say(f"error: {reason}")
                return 2
            options = options._replace(uri=f"http://127.0.0.1:{server_port(options, stack, 'shared')}")
        for name in given.section or SECTIONS:
            say(f"== {name}")
            rows += SECTIONS[name](options)
    say("\n" + markdown(rows))
    failures = [failure for row in rows for failure in row.failures]
    for failure in failures:
        say(f"\nnot survived: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    main()
