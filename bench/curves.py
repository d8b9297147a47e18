"""A picture of how good models are after so many seconds: an experiment a panel, a contestant a colour."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

from src import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1f5fa8", "#8a8f98", "#7b4fa3", "#c25b12", "#2c7a4b")
SHOWN = 0.25  # epochs from this share of a training on set the scale: the first ones would press the rest into a line


def picture(table: pd.DataFrame) -> Figure:
    """table: experiment, contestant, seed, epoch, seconds, measure and value. A line is the median over the seeds, the
    band has all of them."""
    from matplotlib.figure import Figure

    names = list(table["experiment"].unique())
    contestants = sorted(table["contestant"].unique(), key=lambda name: (name != "loopline", name))
    colours = dict(zip(contestants, itertools.cycle(COLOURS), strict=False))
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, name in zip(places, names, strict=False):
        _panel(axes, name, table[table["experiment"] == name], colours)
    for axes in places[len(names) :]:
        axes.set_axis_off()
    return figure


def _panel(axes: Any, name: str, table: pd.DataFrame, colours: dict[str, str]) -> None:
    for contestant, colour in colours.items():
        epochs = table[table["contestant"] == contestant].groupby("epoch")
        seconds, values = epochs["seconds"].median(), epochs["value"]
        axes.plot(seconds, values.median(), color=colour, label=contestant, linewidth=1.4)
        axes.fill_between(seconds, values.min(), values.max(), color=colour, alpha=0.15, linewidth=0)
    measure = table["measure"].iloc[0]
    late = table.loc[table["epoch"] > SHOWN * table["epoch"].max(), "value"].dropna()
    low, high = (0.02, 1.0) if metrics.METRICS[measure].goal == "maximise" else (0.0, 0.98)
    bottom, top = late.quantile(low), late.quantile(high)
    if bottom < top:
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.05 * (top - bottom))
    axes.set(title=name, xlabel="seconds of training", ylabel=f"{measure} on the test split")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
