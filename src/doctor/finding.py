"""What a check has to say: all is well, or what is wrong, where, and how to mend it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from src.params import Params

Mend = Callable[[], str]  # does it, and returns what it has done


@dataclass(frozen=True)
class Finding:
    """`said`: what, and where. `remedy`: where there is a `mend`, what --fix does, else what the user can do."""

    said: str
    wrong: bool = False
    remedy: str = ""
    mend: Mend | None = None


# A check looks and changes nothing; it yields one finding when all is well, else one for each thing that is wrong.
Check = Callable[[Params], Iterator[Finding]]


def ok(said: str) -> Finding:
    return Finding(said)


def wrong(said: str, remedy: str, mend: Mend | None = None) -> Finding:
    return Finding(said, True, remedy, mend)
