"""The diagnostics gate: no evidence is no pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayes_pricing.demand.convergence import convergence
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Check, Finding

Floats = NDArray[np.float64]

RHAT_LIMIT = 1.01
ESS_LIMIT = 400
EBFMI_LIMIT = 0.3
CLOSELY_CHECKED_ITEMS = 200
ITEMS_AT_ONCE = 1000
MORE_DRAWS = "fit again with more draws (--draws) or a longer warm-up (--tune)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerStatistics:
    """What the sampler said of itself.

    Attributes
    ----------
    divergences : int
        Draws after warm-up whose trajectory diverged; -1 where the sampler did not say.
    energy : array (chain, draw) or None
        Hamiltonian energy; None for a sampler that has none.
    """

    divergences: int
    energy: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """Verdict of the gate on one fit; NaN anywhere fails.

    Examples
    --------
    >>> bad = Check(code="rhat", passed=False, finding="largest R-hat nan, limit 1.01", remedy="fit again")
    >>> Diagnostics(checks=(bad,), max_rhat=float("nan"), min_ess_bulk=0.0, min_ess_tail=0.0, divergences=0).passed
    False
    """

    checks: tuple[Check, ...]
    max_rhat: float
    min_ess_bulk: float
    min_ess_tail: float
    divergences: int

    @property
    def passed(self) -> bool:
        """Every check passed, and there was at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The failed checks as findings."""
        return tuple(
            Finding(code=check.code, severity="error", message=check.finding, remedy=check.remedy)
            for check in self.checks
            if not check.passed
        )


def rhat_limit(parameters: int, chains: int = 4, ess: float = 400.0) -> float:
    r"""Largest R-hat that `parameters` well-mixed parameters would show, in all but one of a thousand fits.

    With 2 M split chains the between-chain variance of a well-mixed parameter is a scaled chi-square, so

    .. math:: \hat R \le \sqrt{1 + \chi^2_{2M-1, 1 - 0.001/n} / (2M-1) / n_\text{eff per split chain}}

    The limit is never below 1.01.

    Parameters
    ----------
    parameters : int
        How many parameters are looked at.
    chains : int
    ess : float
        Effective sample size that the gate asks for, over all chains.

    Examples
    --------
    >>> rhat_limit(1, ess=16000.0)
    1.01
    >>> round(rhat_limit(20, ess=800.0), 3), round(rhat_limit(2000, ess=800.0), 3)
    (1.022, 1.03)
    """
    freedom = 2 * chains - 1
    quantile = float(stats.chi2.isf(0.001 / max(parameters, 1), freedom)) / freedom
    return max(RHAT_LIMIT, math.sqrt(1.0 + quantile / (ess / (2 * chains))))


def check_sampling(posterior: DemandPosterior, statistics: SamplerStatistics) -> Diagnostics:
    """R-hat, bulk and tail effective sample size, divergences and E-BFMI of one fit.

    Hyper-parameters and the coefficients above the item are all looked at; of the items, the `CLOSELY_CHECKED_ITEMS`
    that a cheap split R-hat ranks worst. Limits on R-hat allow for how many parameters were screened (`rhat_limit`).

    Parameters
    ----------
    posterior : DemandPosterior
    statistics : SamplerStatistics

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and localization",
    Bayesian Analysis 16(2); Betancourt (2016), "Diagnosing suboptimal cotangent disintegrations", arXiv:1604.00695.
    """
    suspects, screened = _suspects(posterior)
    return _judge(_upper_parameters(posterior), suspects, screened, statistics)


def check_arrays(upper: Floats, lower: Floats, statistics: SamplerStatistics) -> Diagnostics:
    """The same gate for a model that is no `DemandPosterior`.

    Parameters
    ----------
    upper : array (chain, draw, parameter)
        Every one is looked at.
    lower : array (chain, draw, parameter)
        The many (items, people): the worst are looked at.
    statistics : SamplerStatistics
    """
    suspects, screened = _worst([_varying(lower)])
    return _judge(_varying(upper), suspects, screened, statistics)


def _judge(few: Floats, suspects: Floats, screened: int, statistics: SamplerStatistics) -> Diagnostics:
    rhat_few, bulk_few, tail_few = convergence(few)
    rhat_items, bulk_items, tail_items = convergence(suspects)
    few_limit = rhat_limit(few.shape[2], chains=few.shape[0], ess=2 * ESS_LIMIT)
    item_limit = rhat_limit(screened, chains=few.shape[0], ess=2 * ESS_LIMIT)
    bulk = float(np.min(np.concatenate([bulk_few, bulk_items])))
    tail = float(np.min(np.concatenate([tail_few, tail_items])))
    worst_few, worst_items = float(np.max(rhat_few)), float(np.max(rhat_items))
    checks = [
        _at_most("rhat", worst_few, few_limit, f"largest R-hat {worst_few:.4f}, limit {few_limit:.4f}"),
        _at_most(
            "rhat_items",
            worst_items,
            item_limit,
            f"largest R-hat of {screened} item coefficients {worst_items:.4f}, limit {item_limit:.4f}",
        ),
        _at_least("ess_bulk", bulk, ESS_LIMIT, f"smallest bulk effective sample size {bulk:.0f}, limit {ESS_LIMIT}"),
        _at_least("ess_tail", tail, ESS_LIMIT, f"smallest tail effective sample size {tail:.0f}, limit {ESS_LIMIT}"),
        Check(
            code="divergences",
            passed=statistics.divergences == 0,
            finding=f"{statistics.divergences} divergent draws" if statistics.divergences >= 0 else "unknown",
            remedy="fit again with a longer warm-up (--tune 2000); if it stays, use fewer levels",
        ),
    ]
    if statistics.energy is not None:
        ebfmi = float(np.min(_ebfmi(statistics.energy)))
        checks.append(_at_least("ebfmi", ebfmi, EBFMI_LIMIT, f"smallest E-BFMI {ebfmi:.2f}, limit {EBFMI_LIMIT}"))
    return Diagnostics(
        checks=tuple(checks),
        max_rhat=max(worst_few, worst_items),
        min_ess_bulk=bulk,
        min_ess_tail=tail,
        divergences=statistics.divergences,
    )


def diagnostics_json(diagnostics: Diagnostics) -> Mapping[str, object]:
    """Plain values for machines: ``passed, max_rhat, min_ess_bulk, min_ess_tail, divergences, checks``."""
    return {
        "passed": diagnostics.passed,
        "max_rhat": _finite(diagnostics.max_rhat),
        "min_ess_bulk": _finite(diagnostics.min_ess_bulk),
        "min_ess_tail": _finite(diagnostics.min_ess_tail),
        "divergences": diagnostics.divergences,
        "checks": [
            {"code": check.code, "passed": check.passed, "finding": check.finding} for check in diagnostics.checks
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _at_most(code: str, value: float, limit: float, finding: str) -> Check:
    return Check(code=code, passed=value <= limit, finding=finding, remedy=MORE_DRAWS)


def _at_least(code: str, value: float, limit: float, finding: str) -> Check:
    return Check(code=code, passed=value >= limit, finding=finding, remedy=MORE_DRAWS)


def _upper_parameters(posterior: DemandPosterior) -> Floats:
    """Hyper-parameters that vary, and coefficients above the item: (chain, draw, parameter)."""
    arrays = [variable.transpose("chain", "draw", ...).to_numpy() for variable in posterior.hyper().values()]
    arrays += [posterior.coefficients(level).to_numpy() for level in posterior.spec.all_levels[1:]]
    arrays.append(posterior.shared().to_numpy())
    return _varying(np.concatenate([array.reshape(*array.shape[:2], -1) for array in arrays], axis=2).astype(float))


def _varying(draws: Floats) -> Floats:
    """Columns of (chain, draw, column) that were sampled: not one constant in every chain."""
    return draws[:, :, ~np.all(draws == draws[:1, :1], axis=(0, 1))]


def _suspects(posterior: DemandPosterior) -> tuple[Floats, int]:
    """The item coefficients with the largest plain split R-hat, (chain, draw, at most kept), and how many were seen.

    Items come in parts, so that memory does not grow with their number.
    """
    names = posterior.items["item"].to_list()
    parts = (names[start : start + ITEMS_AT_ONCE] for start in range(0, len(names), ITEMS_AT_ONCE))
    draws = (posterior.coefficients("item", part).to_numpy() for part in parts)
    return _worst(_varying(part.reshape(*part.shape[:2], -1)) for part in draws)


def _worst(parts: Iterable[Floats]) -> tuple[Floats, int]:
    """Of parameters that come in parts (chain, draw, column) those with the largest split R-hat, and how many came."""
    worst: list[Floats] = []
    ratios: list[Floats] = []
    screened = 0
    for draws in parts:
        ratio = _split_ratio(draws)
        chosen = np.argsort(-ratio, kind="stable")[:CLOSELY_CHECKED_ITEMS]
        worst.append(draws[:, :, chosen].astype(float))
        ratios.append(ratio[chosen])
        screened += draws.shape[2]
    order = np.argsort(-np.concatenate(ratios), kind="stable")[:CLOSELY_CHECKED_ITEMS]
    return np.concatenate(worst, axis=2)[:, :, order], screened


def _split_ratio(draws: Floats) -> Floats:
    """Between-chain over within-chain variance of split chains, per column; infinite where it is not known."""
    chains, length, _ = draws.shape
    half = length // 2
    split = draws[:, : 2 * half].reshape(2 * chains, half, -1)
    within = split.var(axis=1, ddof=1).mean(axis=0)
    between = split.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(within > 0, between / within, np.inf)
    ratio[~np.isfinite(draws).all(axis=(0, 1))] = np.inf
    return np.asarray(ratio, dtype=np.float64)


def _ebfmi(energy: Floats) -> Floats:
    """Energy Bayesian fraction of missing information per chain."""
    change = np.mean(np.diff(energy, axis=1) ** 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = change / energy.var(axis=1)
    return ratio
