"""`bayes-pricing fit --model purchase`: offers at tested prices, and the price that earns most among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from bayes_pricing.cli.choice_flags import FamilyRequest, FittedFamily
from bayes_pricing.cli.choice_tables import Row, elasticity_rows, interval, rows
from bayes_pricing.cli.output import ProgressCallback

if TYPE_CHECKING:
    from bayes_pricing.data.roles import ColumnRoles
    from bayes_pricing.demand.fit import SamplerSettings
    from bayes_pricing.demand.purchase import PurchasePosterior, PurchaseShape
    from bayes_pricing.demand.purchase_curve import LooComparison, RevenueCurve
    from bayes_pricing.demand.purchase_data import PurchaseData


def fit_offers(
    request: FamilyRequest,
    frame: pl.DataFrame,
    roles: ColumnRoles,
    settings: SamplerSettings,
    progress: ProgressCallback,
) -> FittedFamily:
    """The shape that leave-one-out chooses, its curves of probability and money, and its best tested price."""
    from bayes_pricing.choice_registry import ChoiceFit
    from bayes_pricing.demand.purchase_curve import expected_revenue
    from bayes_pricing.demand.purchase_data import build_purchases

    progress(0.02, "reading offers")
    data = build_purchases(
        frame,
        price=roles.price,
        bought=roles.quantity,
        trials=roles.exposure,
        competitor_prices=roles.competitor_prices,
        controls=(*roles.controls, *roles.shared_controls),
    )
    chosen, comparison = _fit_shapes(request, data, settings, progress)
    money = expected_revenue(chosen, cost=request.flags.unit_cost)
    effects, linear = _effects(chosen)
    document: dict[str, object] = {
        "coefficients": rows(chosen.names, chosen.beta),
        "shape": chosen.shape,
        "comparison": comparison,
        "marginal_effects": effects,
        "linear_probability": linear,
        **_curve(chosen, money),
    }
    return FittedFamily(
        fitted=ChoiceFit(posterior=chosen, findings=(*chosen.findings, *money.findings), comparison=comparison),
        document=document,
        lines=[*_money_lines(chosen, comparison, money), *_effect_lines(effects, linear, data.competitors)],
    )


def _fit_shapes(
    request: FamilyRequest, data: PurchaseData, settings: SamplerSettings, progress: ProgressCallback
) -> tuple[PurchasePosterior, LooComparison | None]:
    """Fit both shapes where there are prices enough for a curve, and keep the one that predicts better."""
    from bayes_pricing.demand.purchase import TUNE, fit_purchase
    from bayes_pricing.demand.purchase_curve import compare_purchase
    from bayes_pricing.demand.purchase_data import FEWEST_CURVE_PRICES

    def fit(shape: PurchaseShape, start: float) -> PurchasePosterior:
        return fit_purchase(
            data,
            shape,
            seed=request.seed,
            randomised=request.randomised_price,
            draws=settings.draws,
            tune=settings.tune or TUNE,
            chains=settings.chains,
            progress=lambda done, total: progress(start + 0.4 * done / max(total, 1), f"sampling, {shape}"),
        )

    logistic = fit("logistic", 0.05)
    if len(data.prices) < FEWEST_CURVE_PRICES:
        return logistic, None
    curve = fit("curve", 0.45)
    progress(0.9, "comparing by leave-one-out")
    comparison = compare_purchase(logistic, curve)
    return (curve if comparison.chosen == "curve" else logistic), comparison


def _curve(chosen: PurchasePosterior, money: RevenueCurve) -> dict[str, object]:
    """Probability, money and elasticity along the tested range, and the best price in it."""
    from bayes_pricing.demand.purchase_curve import purchase_elasticity

    grid = money.probability["price"].to_numpy()
    mean_price = float(chosen.data.mean(chosen.data.price))
    parts = (money.probability.to_numpy(), money.money.to_numpy(), purchase_elasticity(chosen, grid).to_numpy())
    curve = [
        {
            "price": float(price),
            **{
                name: interval(part[:, at])
                for name, part in zip(("probability_taken", "money", "elasticity"), parts, strict=True)
            },
        }
        for at, price in enumerate(grid)
    ]
    at_mean = purchase_elasticity(chosen, [mean_price]).to_numpy()
    return {
        "elasticities": elasticity_rows("population", [f"at the mean price {mean_price:.4g}"], at_mean),
        "curve": curve,
        "best_price": {"price": money.price, "unit_cost": money.cost, "optimum": interval(money.best.to_numpy())},
    }


def _effects(chosen: PurchasePosterior) -> tuple[list[Row], list[Row]]:
    """Mean marginal effects of the posterior, and the linear probability model's coefficients."""
    from bayes_pricing.demand.purchase_curve import marginal_effects
    from bayes_pricing.demand.purchase_linear import linear_probability

    effects, linear = marginal_effects(chosen), linear_probability(chosen.data)
    beside: list[Row] = [
        {"name": name, "coefficient": float(value), "standard_error": float(error), "errors": linear.errors}
        for name, value, error in zip(linear.names, linear.coefficients, linear.standard_errors, strict=True)
    ]
    return rows([str(name) for name in effects["column"].to_numpy()], effects.to_numpy()), beside


def _money_lines(chosen: PurchasePosterior, comparison: LooComparison | None, money: RevenueCurve) -> list[str]:
    earned = interval(money.money.sel(price=money.price).to_numpy())
    best = interval(money.best.to_numpy())
    why = comparison.reason if comparison is not None else "two prices show no other shape"
    what = "profit" if money.cost else "revenue"
    return [
        f"Shape: {chosen.shape} ({why}).",
        f"An offer earns most at {money.price:.4g}: {what} {earned['mean']:.3g} ({earned['lower']:.3g} to "
        f"{earned['upper']:.3g}). The best tested price is between {best['lower']:.4g} and {best['upper']:.4g} with "
        f"probability {best['probability']:.0%}.",
    ]


def _effect_lines(effects: list[Row], linear: list[Row], competitors: int) -> list[str]:
    """Effects of the prices, beside those of a straight line."""
    return [
        f"One more of {row['name']} moves the probability of purchase by {row['mean']:+.3f} ({row['lower']:+.3f} to "
        f"{row['upper']:+.3f}); a straight line says {line['coefficient']:+.3f} (se {line['standard_error']:.3f})."
        for row, line in zip(effects[: 1 + competitors], linear[1:], strict=False)
    ]
