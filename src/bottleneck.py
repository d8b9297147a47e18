"""What a profile says, on one screen: where the time of a step goes, and what to try next where that tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median
from typing import NamedTuple

from src.sections import Train

PARTS = {
    "data": "the batch is gathered",
    "forward": "model and loss",
    "backward": "gradients, train.clip_norm",
    "optimizer": "zero_grad, the update",
    "between": "looks at the loss, saving",
}
SYNCS = ("aten::item", "aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaEventSynchronize")
SHOWN = 10  # operators
SHORT = 0.01  # milliseconds in an operator on the CPU: below, calling it costs about as much as what it computes
MUCH = 0.3  # share of a step that is worth a word
NOISE = 0.1  # share of a step by which steps differ on a quiet machine


class Operator(NamedTuple):
    """One operator in all recorded steps: milliseconds in itself, without what it calls, on the host and on a GPU."""

    name: str
    calls: int
    host_ms: float
    gpu_ms: float


@dataclass(frozen=True)
class Measured:
    """What was measured. Steps count over all epochs, from 0; `step`, `lost` and `waits` are milliseconds of one."""

    place: str  # device, threads, version
    settings: Train
    gpu: bool
    timed: range
    recorded: range
    steps: list[dict[str, float]]  # of those timed: milliseconds of each of PARTS
    recorded_ms: float  # all of those recorded, with the profiler
    operators: list[Operator]
    busy_ms: float  # in which the GPU did anything, in all of those recorded

    @property
    def parts(self) -> dict[str, float]:
        """Milliseconds of each part in the mean of the steps: they add up to `step`."""
        return {part: mean(step[part] for step in self.steps) for part in PARTS}

    @property
    def step(self) -> float:
        return sum(self.parts.values())

    @property
    def lost(self) -> float:
        """GPU: no kernel runs. CPU: not in operators that take long. Both take as long without the profiler."""
        count = len(self.recorded)
        long = sum(each.host_ms for each in self.operators if each.host_ms > SHORT * each.calls)
        return max(0.0, self.step - (self.busy_ms if self.gpu else long) / count)

    @property
    def syncs(self) -> list[Operator]:
        return [operator for operator in self.operators if operator.name in SYNCS]

    @property
    def waits(self) -> float:
        """The host reads values from the device, or waits for it."""
        return sum(sync.host_ms for sync in self.syncs) / len(self.recorded)

    @property
    def slower(self) -> float:
        """How many times as long a step takes with the profiler."""
        return self.recorded_ms / len(self.recorded) / self.step

    @property
    def quiet(self) -> bool:
        """Recorded steps take longer by no more than recording costs: less than SHORT an operator."""
        calls = sum(operator.calls for operator in self.operators) / len(self.recorded)
        return -NOISE < self.slower - 1 < NOISE + SHORT * calls / self.step

    def costs(self) -> list[tuple[float, Operator]]:
        """Milliseconds of a step by operator, on the device that computes, the most costly first."""
        found = [((each.gpu_ms if self.gpu else each.host_ms) / len(self.recorded), each) for each in self.operators]
        return sorted(found, reverse=True)


def summary(measured: Measured) -> str:
    """All of it, as lines of text."""
    timed, recorded = measured.timed, measured.recorded
    return "\n".join(
        [
            f"profile on {measured.place}",
            f"{len(timed)} steps from step {timed.start + 1} on timed, "
            f"{len(recorded)} from step {recorded.start + 1} on recorded by torch's profiler",
            "",
            *_parts(measured),
            "",
            *_operators(measured),
            "",
            *advice(measured),
            "",
        ]
    )


def _parts(measured: Measured) -> list[str]:
    whole, each = measured.step, [sum(step.values()) for step in measured.steps]
    lost = ("idle", "of it: no kernel runs") if measured.gpu else ("calls", "of it: Python, operators under 10 µs")
    rows = [
        *((part, words, measured.parts[part]) for part, words in PARTS.items()),
        ("a step", f"{1000 / whole:,.0f} a second; median {median(each):.3f}", whole),
        (*lost, measured.lost),
        ("host syncs", f"of it: {', '.join(sync.name for sync in measured.syncs) or 'none'}", measured.waits),
    ]
    return [
        f"{'part of a step':<58}{'ms':>8}{'share':>8}",
        *(f"{part:<12}{words[:45]:<46}{value:>8.3f}{value / whole:>8.1%}" for part, words, value in rows),
    ]


def _operators(measured: Measured) -> list[str]:
    costs, count = measured.costs(), len(measured.recorded)
    whole = sum(cost for cost, _ in costs)
    return [
        f"{'operator, without what it calls':<50}{'calls':>8}{'ms':>8}{'share':>8}",
        *(
            f"{operator.name[:49]:<50}{operator.calls / count:>8.3g}{cost:>8.3f}{cost / whole:>8.1%}"
            for cost, operator in costs[:SHOWN]
        ),
        f"A recorded step took {measured.slower:.2f} times as long as a timed one.",
    ]


def advice(measured: Measured) -> list[str]:
    """What to try, where the numbers say so."""
    if not measured.quiet:
        return ["The machine was busy with something else in part of these steps: measure again when it is quiet."]
    settings, whole, costly = measured.settings, measured.step, measured.costs()[0][1].name
    augmented = any(settings.augment.model_dump().values())
    lighter = "fewer changes of train.augment" if augmented else "a larger train.batch_size"
    lost = "has no kernel running" if measured.gpu else "goes into calls of operators, not into long ones"
    faster = "train.precision: bf16" if measured.gpu and settings.precision == "fp32" else "a smaller model"
    limits = [
        (measured.parts["data"], f"gathers the batch: try {lighter}"),
        (measured.waits, "waits for values of the device: the trace shows who asks for them"),
        (measured.lost, f"{lost}: try a larger train.batch_size, so that a call does more"),
    ]
    found = [f"{value / whole:.0%} of a step {words}." for value, words in limits if value > MUCH * whole]
    if measured.lost <= MUCH * whole:
        found.append(f"{1 - measured.lost / whole:.0%} of a step computes, most of all in {costly}: try {faster}.")
    return found


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Milliseconds in which at least one of the spans, in microseconds, goes on."""
    length, reached = 0.0, 0.0
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return length / 1000
