"""What every command shares: exit codes, signals, and messages without tracebacks."""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from src.errors import InputError, RunError

BAD_INPUT = 2
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


def run(main: Callable[[], None], description: str | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated.

    description: for a command that takes no options, what its --help says.
    """
    if description:
        argparse.ArgumentParser(description=description).parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except InputError as error:
        _fail(error, BAD_INPUT)
    except RunError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _fail("interrupted. The same command goes on from the last checkpoint.", INTERRUPTED)
    sys.exit(0)


def say(message: str) -> None:
    """Progress and notes go to stderr; stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def _fail(message: object, code: int) -> NoReturn:
    say(f"error: {message}" if code != INTERRUPTED else f"\n{message}")
    sys.exit(code)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    # an exception, so that open runs are closed as KILLED; a second signal must not cut that short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("terminated. The same command goes on from the last checkpoint.")
    sys.exit(TERMINATED)
