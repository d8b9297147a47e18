"""What is wrong with a params file, a line for each mistake: key, value, what is allowed, the nearest known name."""

import difflib
import re
from typing import Any

DEVICES = "auto, cpu, mps, cuda, cuda:N"


def one_of(names: list[str], value: str) -> str:
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}{nearest(value, names)}")
    return value


def nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f". Did you mean {close[0]}?" if close else ""


def line(detail: Any, known: list[str], of_range: list[str]) -> str:
    """One pydantic error as one line: key, value, what is allowed.

    known: every key; of_range: the keys of a range in tune.space.
    """
    place = [part for part in detail["loc"] if part not in ("<kind>", "<order>", "<range>", "<choices>")]
    key = ".".join(map(str, place))
    if detail["type"] == "extra_forbidden":
        if key.startswith("tune.space."):
            known = [".".join([*map(str, place[:-1]), name]) for name in of_range]
        # the right name in the wrong section is nearer than any other
        same = next((name for name in known if name.endswith(f".{place[-1]}")), None)
        return f"{key} is not a known param" + (f". Did you mean {same}?" if same else nearest(key, known))
    if detail["type"] == "missing":
        return f"{key} is missing"
    wanted = detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    wanted = re.sub("valid dictionary.*", "mapping", wanted)
    if detail["type"] == "string_pattern_mismatch":
        wanted = f"must be one of {DEVICES}"
    return f"{key} = {detail['input']!r}: {wanted}"
