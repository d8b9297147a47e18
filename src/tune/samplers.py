"""How the next trial is chosen, and how a bad one is stopped early: an entry each in SAMPLERS and PRUNERS."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from src.params import Params
from src.tune import space

# seed: of the trial that is chosen; last: what chose the one before
Sampler = Callable[[Params, int, BaseSampler], BaseSampler]
Pruner = Callable[[int], BasePruner]  # epochs: of a whole training


class Spread(BaseSampler):
    """Values that lie more evenly than random ones (Sobol 1967; scrambled, Owen 1998; Bergstra & Bengio 2012). Those of
    a trial are a point of one sequence for the whole study, by its number alone: Optuna's own draws at random until a
    trial has ended, which lanes would all be begun before."""

    def __init__(self, params: Params) -> None:
        self._keys, self._seed = sorted(params.tune.space), params.seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Any:
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        count = 1 << max(trial.number, 63).bit_length()  # a power of two, where it is balanced, and seldom another
        point = _sequence(len(self._keys), self._seed, count)[trial.number]
        return at(param_distribution, float(point[self._keys.index(param_name)]))


@cache
def _sequence(dimensions: int, seed: int, count: int) -> np.ndarray:
    from scipy.stats.qmc import Sobol  # most of a second, for one sampler alone

    return Sobol(dimensions, rng=seed).random(count)


def at(among: CategoricalDistribution | IntDistribution | FloatDistribution, share: float) -> Any:
    """The value that so large a share of the others lies below, from 0 to less than 1."""
    if isinstance(among, CategoricalDistribution):
        return among.choices[int(share * len(among.choices))]
    low, high = among.low, among.high
    if among.log:
        half = 0.5 if isinstance(among, IntDistribution) else 0.0  # so that the ends are as likely as the others
        value = math.exp(math.log(low - half) + share * (math.log(high + half) - math.log(low - half)))
        return min(max(round(value) if half else value, low), high)
    if among.step is None:
        return low + share * (high - low)
    count = int((high - low) / among.step + 1e-9) + 1
    return min(low + among.step * int(share * count), high)  # 0.1 + 2 * 0.1 is more than 0.3


class Tpe(optuna.samplers.TPESampler):
    """One for all trials of a study, so that which params they have in common is asked of new trials alone: of a
    thousand that is a fifth of the time that choosing takes. Not for spaces with conditions, whose groups would then
    come in the order in which trials end."""

    def draw_by(self, seed: int) -> None:
        """Be as one that is new and has this seed."""
        for rng in (self._rng, self._random_sampler._rng):
            rng.rng.seed(seed)


def tpe(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), of all params at once (Falkner et al. 2018)."""
    if any(space.when(allowed) for allowed in params.tune.space.values()):
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    sampler = last if isinstance(last, Tpe) else Tpe(multivariate=True, constant_liar=True)
    sampler.draw_by(seed)
    return sampler


def gp(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    """Gaussian process, by the expected improvement."""
    return optuna.samplers.GPSampler(seed=seed)


def cmaes(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    """Covariance matrix adaptation (Hansen 2016) of what is a number; choices are drawn at random."""
    return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)


def qmc(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    """Spread over the space by a quasi-Monte Carlo sequence."""
    return Spread(params)


def random(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


class Grid(optuna.samplers.GridSampler):
    """A grid whose trials are counted by who asks for them: Optuna would stop its own loop, which is not used here."""

    def after_trial(self, *_: object) -> None:
        pass


def grid(params: Params, seed: int, last: BaseSampler) -> BaseSampler:
    return Grid(space.grid(params), seed=params.seed)  # which numbers the combinations, so it is the same for all


def median(epochs: int) -> BasePruner:
    """Worse than half of the trials were at the same epoch."""
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 10))


def hyperband(epochs: int) -> BasePruner:
    """Several halvings beside each other, from hasty to patient (Li et al. 2018); the first epochs, which a large
    learning rate wins, are not judged."""
    return optuna.pruners.HyperbandPruner(min_resource=max(1, epochs // 9), max_resource=epochs)


def halving(epochs: int) -> BasePruner:
    """The better quarter goes on at each rung (Li et al. 2020, asynchronous successive halving)."""
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 16))


def patient(epochs: int) -> BasePruner:
    """As median, once nothing has improved for a tenth of the epochs."""
    return optuna.pruners.PatientPruner(median(epochs), patience=max(1, epochs // 10))


def wilcoxon(epochs: int) -> BasePruner:
    """Probably worse than the best, seed by seed (Wilcoxon's signed rank test, Wilcoxon 1945)."""
    return optuna.pruners.WilcoxonPruner()


def none(epochs: int) -> BasePruner:
    return optuna.pruners.NopPruner()


SAMPLERS: dict[str, Sampler] = {
    "tpe": tpe,
    "gp": gp,
    "cmaes": cmaes,
    "qmc": qmc,
    "random": random,
    "grid": grid,
}
PRUNERS: dict[str, Pruner] = {
    "median": median,
    "hyperband": hyperband,
    "halving": halving,
    "patient": patient,
    "wilcoxon": wilcoxon,
    "none": none,
}
