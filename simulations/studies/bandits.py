"""Thompson sampling against a planned test, with regret curves: `python -m simulations.studies.bandits`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.experiments.bandits import PolicyPlay, play_test_and_roll, play_thompson
from bayes_pricing.experiments.many_arms import Arms, best_sizes
from bayes_pricing.experiments.price_arms import PriceChoice, price_arms
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.profit import Economics
from simulations.markets.log_log_items import LogLogSettings, draw_log_log

Floats = NDArray[np.float64]
WEEKS = 104
MOMENTS = (4, 8, 13, 26, 52, 104)


def item_arms(items: int, seed: int) -> list[tuple[Arms, Floats]]:
    """Three prices of each item of a fitted market: what is believed, and the true profit per week."""
    market = draw_log_log(LogLogSettings(items=items), np.random.default_rng([seed, 0]))
    sales = market.history(np.random.default_rng([seed, 1]))
    panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    fitted = fit_demand(panel, ModelRequest(model="lognormal"), SamplerSettings(draws=250, chains=4), seed=seed)
    found = []
    for place, item in enumerate(market.items):
        believed = price_arms(
            fitted.posterior, Economics(), item, PriceChoice(count=2), horizon_periods=WEEKS,
            limits=[MaxChange(share=0.2)],
        )  # fmt: skip
        truth = [market.expected_profit(np.full(items, price))[place] for price in believed.prices]
        found.append((believed.arms, np.array(truth)))
    return found


def play(arms: Arms, truth: Floats, worlds: int, rng: np.random.Generator) -> list[PolicyPlay]:
    """Every policy on the same truth, over as many lots of sales noise."""
    repeated = np.tile(truth, (worlds, 1))
    planned = np.array(best_sizes(arms).n_per_arm)
    half = np.full(truth.size, WEEKS / 2 / truth.size)
    kept = np.zeros((worlds, WEEKS), dtype=np.int64)
    lost = (repeated.max(axis=1) - repeated[:, 0])[:, None] * np.arange(1, WEEKS + 1)
    named = [
        PolicyPlay(policy="today's price", choices=kept, regret=lost),
        replace(play_test_and_roll(arms, repeated, np.zeros(truth.size), rng), policy="best prior mean at once"),
        replace(play_test_and_roll(arms, repeated, half - 0.5, rng), policy="half of the time tested"),
        replace(play_test_and_roll(arms, repeated, planned, rng), policy="planned test, then the best"),
    ]
    return [*named, play_thompson(arms, repeated, rng)]


def curves(items: list[tuple[Arms, Floats]], worlds: int, seed: int) -> dict[str, Floats]:
    """Regret so far as a share of the best possible money of all weeks, by policy: array (item, week)."""
    rng = np.random.default_rng([seed, 5])
    found: dict[str, list[Floats]] = {}
    for arms, truth in items:
        for played in play(arms, truth, worlds, rng):
            found.setdefault(played.policy, []).append(played.mean_regret() / (WEEKS * truth.max()))
    return {policy: np.array(rows) for policy, rows in found.items()}


def table(found: dict[str, Floats]) -> list[str]:
    """Regret curves at a few moments."""
    lines = [
        "| policy |" + "".join(f" week {week} |" for week in MOMENTS) + " against the planned test at the end |",
        "|---|" + "---|" * (len(MOMENTS) + 1),
    ]
    planned = found["planned test, then the best"]
    for policy, rows in found.items():
        cells = "".join(f" {100 * rows[:, week - 1].mean():.2f} % |" for week in MOMENTS)
        difference = 100 * (rows[:, -1] - planned[:, -1])
        error = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        paired = "" if policy == "planned test, then the best" else f"{difference.mean():+.2f} ± {error:.2f}"
        lines.append(f"| {policy} |{cells} {paired} |")
    return lines


def main() -> None:
    """Run the study and write its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--worlds", type=int, default=50, help="lots of sales noise of each item")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/bandits.md"))
    options = parser.parse_args()
    found = curves(item_arms(options.items, options.seed), options.worlds, options.seed)
    lines = [
        "# Bandits against a planned test",
        "",
        f"Today's price and two new ones of {options.items} items with log-log demand, over {WEEKS} weeks, one price "
        "at",
        "a time; beliefs come from a fit to 26 weeks of history. Every item is played",
        f"{options.worlds} times. Regret: profit lost so far against the best of the three prices, as a share of what",
        "that price brings over all weeks. The last column is paired over items, with 95 % intervals.",
        "Generated by `python -m simulations.studies.bandits`.",
        "",
        *table(found),
    ]
    print("\n".join(lines))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
