"""Pictures of a study: reports/tune/study.html, to look into, and PNGs of the same."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import plotly.graph_objects as go
from optuna import visualization
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from src import files
from src.tune import study

mpl.use("Agg")  # before pyplot, which would look for a screen

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 70em; margin: 2em auto }} pre {{ background: #f4f4f4; padding: 1em }}
</style><h1>{title}</h1><pre>{words}</pre>
{figures}
</html>
"""


class Told(NamedTuple):
    """What the pictures show: a study, the names of what it made small or large, the share of each param in the first
    of these, and what a trial was judged after: an epoch, or a seed."""

    study: Study
    names: list[str]
    importance: dict[str, float]
    step: str

    @property
    def value(self) -> str:
        return self.names[0]

    @property
    def complete(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def write(told: Told, words: str, folder: Path) -> list[Path]:
    """Make the pictures of a study that has completed trials; returns the files. words: what the page begins with."""
    import matplotlib.pyplot as plt

    interactive: list[str] = []
    written = [folder / "study.html"]
    for name, picture in PICTURES.items():
        figure = picture.interactive(told)
        if figure is None:
            continue
        interactive.append(figure.to_html(full_html=False, include_plotlyjs=not interactive))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls its pictures by matplotlib experimental
            picture.still(told)
        written.append(folder / f"{name}.png")
        plt.savefig(written[-1], dpi=120, bbox_inches="tight")
        plt.close("all")
    title = html.escape(f"Study {told.study.study_name}")
    page = PAGE.format(title=title, words=html.escape(words), figures="\n".join(interactive))
    files.write_bytes(written[0], page.encode())
    return written


def by_choice(told: Told) -> tuple[str, str | None, dict[str, list[FrozenTrial]]]:
    """The first param of the space that is a range, the first that is a list, and the trials by its choices, each in
    the order of the range: with the shipped space, the learning rate by optimizer."""
    spaces = {key: space for trial in told.complete for key, space in trial.distributions.items()}
    ranges, lists = (
        [key for key, space in spaces.items() if hasattr(space, "low") == wanted] for wanted in (True, False)
    )
    groups: dict[str, list[FrozenTrial]] = {}
    for trial in sorted(told.complete, key=lambda trial: trial.params.get(ranges[0], 0.0) if ranges else 0.0):
        if ranges and ranges[0] in trial.params:
            groups.setdefault(str(trial.params.get(lists[0])) if lists else "trials", []).append(trial)
    return ranges[0] if ranges else "", lists[0] if lists else None, dict(sorted(groups.items()))


def choices(told: Told) -> go.Figure | None:
    across, of, groups = by_choice(told)
    if not groups:
        return None
    figure = go.Figure()
    for name, own in groups.items():
        points = {"x": [trial.params[across] for trial in own], "y": [trial.values[0] for trial in own]}
        figure.add_scatter(**points, mode="lines+markers", name=name, text=[f"trial {trial.number}" for trial in own])
    axes = {
        "xaxis": {"title": across, "type": scale(told, across)},
        "yaxis": {"title": told.value, "type": height(told)},
    }
    return figure.update_layout(title=f"{across} by {of}" if of else across, **axes)


def choices_still(told: Told) -> None:
    import matplotlib.pyplot as plt

    across, of, groups = by_choice(told)
    _, axes = plt.subplots(figsize=(7, 4))
    for name, own in groups.items():
        axes.plot(
            [trial.params[across] for trial in own], [trial.values[0] for trial in own], "o-", label=name, alpha=0.8
        )
    axes.set(xlabel=across, ylabel=told.value, xscale=scale(told, across), yscale=height(told))
    axes.legend(title=of)


def of_first(told: Told) -> dict[str, Any]:
    """What Optuna has to be told of that which is shown. It draws no line of the best once it has a `target`."""
    target = study.first_value if len(told.names) > 1 else None
    return {"target": target, "target_name": told.value}


def scale(told: Told, key: str) -> str:
    """That on which the values of a param were tried."""
    spaces = {name: space for trial in told.complete for name, space in trial.distributions.items()}
    return "log" if getattr(spaces[key], "log", False) else "linear"


def height(told: Told) -> str:
    """A logarithmic one where the worst value would leave no room for what is between the others."""
    values = [trial.values[0] for trial in told.complete]
    return "log" if min(values) > 0 and max(values) > 10 * min(values) else "linear"


def importance(told: Told) -> go.Figure | None:
    if not told.importance:
        return None
    names, shares = list(told.importance)[::-1], list(told.importance.values())[::-1]
    return go.Figure(go.Bar(x=shares, y=names, orientation="h")).update_layout(
        title="Share of the differences explained"
    )


def importance_still(told: Told) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 0.5 * len(told.importance) + 1))
    axes.barh(list(told.importance)[::-1], list(told.importance.values())[::-1])
    axes.set(xlabel="share of the differences explained", xlim=(0, 1))


def history(told: Told) -> go.Figure:
    figure = visualization.plot_optimization_history(told.study, **of_first(told))
    return figure.update_layout(yaxis={"type": height(told)})


def epochs(told: Told) -> go.Figure | None:
    if len(told.study.directions) > 1:  # of which nothing is told on the way
        return None
    titles: dict[str, Any] = {"xaxis": {"title": told.step}, "yaxis": {"title": told.value, "type": height(told)}}
    return visualization.plot_intermediate_values(told.study).update_layout(**titles)


def front(told: Told) -> go.Figure | None:
    return visualization.plot_pareto_front(told.study, target_names=told.names) if 1 < len(told.names) < 4 else None


def front_still(told: Told) -> None:
    visualization.matplotlib.plot_pareto_front(told.study, target_names=told.names)


def parallel(told: Told) -> go.Figure:
    return visualization.plot_parallel_coordinate(told.study, **of_first(told))


def history_still(told: Told) -> None:
    axes = visualization.matplotlib.plot_optimization_history(told.study, **of_first(told))
    axes.set(title="", yscale=height(told))


def epochs_still(told: Told) -> None:
    axes = visualization.matplotlib.plot_intermediate_values(told.study)
    axes.set(title="", xlabel=told.step, ylabel=told.value, yscale=height(told))
    if len(told.study.get_trials(deepcopy=False)) > 20 and (legend := axes.get_legend()):
        legend.remove()


def parallel_still(told: Told) -> None:
    visualization.matplotlib.plot_parallel_coordinate(told.study, **of_first(told))


class Picture(NamedTuple):
    """`interactive` gives a figure of plotly, or None where there is nothing to show; `still` draws by matplotlib."""

    interactive: Callable[[Told], go.Figure | None]
    still: Callable[[Told], object]


PICTURES: dict[str, Picture] = {
    "front": Picture(front, front_still),
    "choices": Picture(choices, choices_still),
    "history": Picture(history, history_still),
    "importance": Picture(importance, importance_still),
    "epochs": Picture(epochs, epochs_still),
    "parallel": Picture(parallel, parallel_still),
}
