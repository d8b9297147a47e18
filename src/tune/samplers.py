"""How the next trial is chosen, and how a bad one is stopped early: an entry each in SAMPLERS and PRUNERS."""

from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from src.params import Params
from src.tune import space

Sampler = Callable[[Params, int], BaseSampler]  # number: of the trial that is chosen
Pruner = Callable[[int], BasePruner]  # epochs: of a whole training


class Tpe(optuna.samplers.TPESampler):
    """One for all trials of a study, so that which params they have in common is asked of new trials alone: of a
    thousand that is a fifth of the time that choosing takes."""

    def draw_by(self, seed: int) -> None:
        """Be as one that is new and has this seed."""
        for rng in (self._rng, self._random_sampler._rng):
            rng.rng.seed(seed)


def tpe(params: Params, number: int) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), of all params at once (Falkner et al. 2018)."""
    conditions = any(space.when(allowed) for allowed in params.tune.space.values())
    return Tpe(seed=params.seed + number, multivariate=True, group=conditions, constant_liar=True)


def gp(params: Params, number: int) -> BaseSampler:
    """Gaussian process, by the expected improvement."""
    return optuna.samplers.GPSampler(seed=params.seed + number)


def cmaes(params: Params, number: int) -> BaseSampler:
    """Covariance matrix adaptation (Hansen 2016) of what is a number; choices are drawn at random."""
    return optuna.samplers.CmaEsSampler(seed=params.seed + number, warn_independent_sampling=False)


def qmc(params: Params, number: int) -> BaseSampler:
    """Sobol's sequence (Bergstra & Bengio 2012): spread more evenly than random; one sequence for the whole study."""
    return optuna.samplers.QMCSampler(
        scramble=True,
        seed=params.seed,
        independent_sampler=random(params, number),
        warn_asynchronous_seeding=False,
        warn_independent_sampling=False,
    )


def random(params: Params, number: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=params.seed + number)


class Grid(optuna.samplers.GridSampler):
    """A grid whose trials are counted by who asks for them: Optuna would stop its own loop, which is not used here."""

    def after_trial(self, *_: object) -> None:
        pass


def grid(params: Params, number: int) -> BaseSampler:
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
