"""Where a decision's objective and limits come from: flags, or one TOML file with the same names."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
from bayes_pricing.errors import Finding, Refusal, SpecError

if TYPE_CHECKING:
    from bayes_pricing.demand.fit import DemandFit
    from bayes_pricing.demand.posterior import DemandPosterior
    from bayes_pricing.pricing.decision import PriceDecision
    from bayes_pricing.pricing.frontier import CautionCost, FrontierPoint
    from bayes_pricing.pricing.profit import Objective


def read_policy(path: Path | None, money: MoneyFlags, limits: LimitFlags) -> tuple[MoneyFlags, LimitFlags]:
    """The policy file's money and limits, or the flags where there is none.

    The file has the flags' names, with dashes or underscores: ``max-change = 0.15``.

    Raises
    ------
    SpecError
        If the file is missing, is not TOML, has an unknown name, or flags are given beside it.
    """
    if path is None:
        return money, limits
    if money != MoneyFlags() or limits != LimitFlags():
        raise SpecError(f"Objective and limits are given in {path} and as flags; use one of the two.")
    try:
        given = {name.replace("-", "_"): value for name, value in tomllib.loads(path.read_text()).items()}
    except FileNotFoundError as error:
        raise SpecError(f"The policy file {path} does not exist.") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"The policy file {path} is not TOML: {error}.") from error
    names = {kind: {field.name for field in fields(kind)} for kind in (MoneyFlags, LimitFlags)}
    known = names[MoneyFlags] | names[LimitFlags]
    unknown = sorted(set(given) - known)
    if unknown:
        raise SpecError(
            f"The policy file {path} has the unknown name {unknown[0]!r}; known are {', '.join(sorted(known))}."
        )
    try:
        return (
            msgspec.convert({name: given[name] for name in given if name in names[MoneyFlags]}, MoneyFlags),
            msgspec.convert({name: given[name] for name in given if name in names[LimitFlags]}, LimitFlags),
        )
    except msgspec.ValidationError as error:
        raise SpecError(f"The policy file {path}: {error}.") from error


def decidable(fitted: DemandFit) -> DemandPosterior:
    """The posterior of a fit whose items have prices of their own.

    Raises
    ------
    Refusal
        If items were pooled for want of any that was seen at two prices: there is no price of today's to move.
    """
    pooled = [finding for finding in fitted.findings if finding.code == "items_pooled"]
    if pooled:
        raise Refusal(
            [
                Finding(
                    code="items_pooled",
                    severity="error",
                    message="items were pooled by category, as none was seen at two prices: none has a price to move",
                    remedy="read the elasticities only, or sell each item at two prices and fit again",
                )
            ]
        )
    return fitted.posterior


def objective_of(posterior: DemandPosterior, money: MoneyFlags, limits: LimitFlags) -> Objective:
    """The objective asked for; profit where a cost is known, revenue elsewhere."""
    if limits.objective is not None:
        return limits.objective
    costs = posterior.items["cost"]
    return "profit" if money.unit_cost is not None or costs.null_count() < costs.len() else "revenue"


def decide(
    posterior: DemandPosterior,
    money: MoneyFlags,
    limits: LimitFlags,
    *,
    seed: int,
    items: list[str] | None = None,
    period_days: float | None = None,
) -> PriceDecision:
    """Best prices under the flags."""
    from bayes_pricing.pricing.optimizer import optimize_prices

    return optimize_prices(
        posterior,
        money.economics(),
        objective_of(posterior, money, limits),
        limits.limits(),
        horizon_periods=limits.horizon,
        seed=seed,
        items=items,
        testing=limits.testing(),
        utility=limits.utility(),
        period_days=period_days,
    )


def score(
    posterior: DemandPosterior,
    money: MoneyFlags,
    limits: LimitFlags,
    *,
    prices: Mapping[str, float],
    seed: int,
    period_days: float | None = None,
) -> PriceDecision:
    """Somebody's own prices under the flags."""
    from bayes_pricing.pricing.optimizer import evaluate_prices

    return evaluate_prices(
        posterior,
        money.economics(),
        objective_of(posterior, money, limits),
        limits.limits(),
        prices=prices,
        horizon_periods=limits.horizon,
        seed=seed,
        utility=limits.utility(),
        period_days=period_days,
    )


def weigh_risk(
    posterior: DemandPosterior, money: MoneyFlags, limits: LimitFlags, *, seed: int
) -> tuple[tuple[FrontierPoint, ...], tuple[CautionCost, ...]]:
    """The efficient frontier of expected gain against shortfall, and what each risk limit of the flags costs."""
    from bayes_pricing.pricing.frontier import efficient_frontier, price_of_caution

    economics, objective = money.economics(), objective_of(posterior, money, limits)
    points = efficient_frontier(
        posterior, economics, objective, limits.limits(), horizon_periods=limits.horizon, seed=seed,
        share=limits.tail_share, utility=limits.utility(),
    )  # fmt: skip
    costs = price_of_caution(
        posterior, economics, objective, limits.limits(), horizon_periods=limits.horizon, seed=seed,
        utility=limits.utility(),
    )  # fmt: skip
    return points, costs


def decided_alone(posterior: DemandPosterior, limits: LimitFlags) -> bool:
    """Whether an item's price depends on no other item: no limit couples them, no utility, no prices that cross."""
    coupled = any(limit.enforced != "mask" for limit in limits.limits())
    return not coupled and limits.risk_tolerance is None and posterior.spec.cross_prices is None
