"""What every command shares: exit codes, signals, and messages without tracebacks."""

import argparse
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from src import files, parent
from src.errors import InputError, RunError

BAD_INPUT = 2
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
IMPORTED = 500_000  # objects: importing torch makes 250,000, MLflow with its store 440,000
EVERY = 2.0  # seconds between lines that say how far a command is
AGAIN = 0.01  # seconds after which an end that was lost comes again

Item = TypeVar("Item")


def run(main: Callable[..., None], description: str | None = None, **flags: str) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.

    description: for a command that takes no options but flags, what its --help says.
    flags: what the --help says of each; `main` is told of each whether it was given.
    """
    given = _given(description, flags) if description else {}
    signal.signal(signal.SIGTERM, _terminate)
    parent.watch()
    try:
        with few_collections():
            main(**given)
    except InputError as error:
        _fail(error, BAD_INPUT)
    except RunError as error:
        _fail(error, 1)
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        _fail(f"no room left: {error}. What was there before is kept: make room, and the same command goes on", 1)
    except KeyboardInterrupt:
        _fail("interrupted. The same command goes on from the last checkpoint or trial.", INTERRUPTED)
    sys.exit(0)


@contextmanager
def few_collections() -> Iterator[None]:
    """Have garbage looked for once there are more new objects than imports make, and from then on as usual: looking
    while they are made took an eighth of a stage that imports torch and has MLflow told. After it never again, as the
    interpreter would at its end: where importing torch takes 2.2 s that took 0.7, and where MLflow with its store takes
    4.4 s, 1.4."""
    usual = gc.get_threshold()

    def as_usual(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            gc.callbacks.remove(as_usual)
            gc.set_threshold(*usual)
            gc.freeze()

    gc.callbacks.append(as_usual)
    gc.set_threshold(IMPORTED)
    try:
        yield
    finally:
        gc.freeze()


def _given(description: str, flags: dict[str, str]) -> dict[str, bool]:
    parser = argparse.ArgumentParser(description=description)
    for name, meaning in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    return vars(parser.parse_args())


class Stopping:
    """Inside, the first SIGTERM or Ctrl-C waits for `now`, or for the end; a second one ends the process at once."""

    def __init__(self) -> None:
        self.wanted: int | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], None]] = {}

    def __enter__(self) -> "Stopping":
        # Python delivers signals to the main thread alone; where nobody handles one, it is not ours to hold back
        for number in (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ():
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:  # else `now` has had its effect on it
                signal.signal(number, handler)
        if self.wanted and kind is None:
            self.now()

    def now(self) -> None:
        """What the signal that came would have done without this: it raises."""
        assert self.wanted
        wanted, self.wanted = self.wanted, None
        self._handlers[wanted](wanted, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            self.now()
        self.wanted = number


def say(message: str) -> None:
    """Progress and notes go to stderr; stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def unsaid(message: str) -> None:
    """In place of `say` for what is one of many, and does not speak for itself."""


def counted(items: Iterable[Item], doing: str, rows: Callable[[Item], int], total: int | None = None) -> Iterator[Item]:
    """Pass items on; every EVERY seconds a line says how many rows were in them."""
    said, seen = time.monotonic(), 0
    for item in items:
        yield item
        seen = min(seen + rows(item), total or sys.maxsize)
        if time.monotonic() - said > EVERY:
            say(f"{doing}: {seen:,}{f' of {total:,}' if total else ''} rows")
            said = time.monotonic()


def _fail(message: object, code: int) -> NoReturn:
    say(f"error: {message}" if code != INTERRUPTED else f"\n{message}")
    sys.exit(code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    # an exception, so that open runs are closed as KILLED; a second signal must not cut that short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.unraisablehook = _end_again
    say("terminated. The same command goes on from the last checkpoint or trial.")
    sys.exit(TERMINATED)


def _end_again(lost: "sys.UnraisableHookArgs") -> None:
    """Where Python drops every exception, in a finalizer for instance, it drops the end too: it comes again, later."""
    if lost.exc_type is not SystemExit:
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(TERMINATED))
    signal.setitimer(signal.ITIMER_REAL, AGAIN)
