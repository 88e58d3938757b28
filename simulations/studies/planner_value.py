"""What the planner's size earns: against brute force and 80 % power. `python -m simulations.studies.planner_value`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.experiments.power import hypothesis_test_size
from bayes_pricing.experiments.price_test import TestGoals, TestPlan, plan_price_test
from bayes_pricing.experiments.sizing import TwoArms, profit_maximizing_test
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.profit import Economics
from simulations.markets.log_log_items import LogLogMarket, LogLogSettings, draw_log_log

Floats = NDArray[np.float64]
CRITICAL = 1.959964
EFFECTS = (0.5, 1.0, 2.0)
"""Effects that the 80 % power test is sized for, in prior sds of the difference."""


def random_arms(rng: np.random.Generator) -> TwoArms:
    """A prior from a wide range: unequal means, sds and noises, correlated arms, often with a cost of switching."""
    sds = np.exp(rng.uniform(np.log(0.02), np.log(0.3), size=2))
    noise = np.exp(rng.uniform(np.log(0.3), np.log(3.0), size=2))
    population = float(np.exp(rng.uniform(np.log(500), np.log(100_000))))
    correlation = float(rng.uniform(0.0, 0.8))
    gap = float(rng.normal(0.0, 0.5 * np.sqrt(sds @ sds)))
    return TwoArms(
        means=(1.0, 1.0 + gap),
        sds=(float(sds[0]), float(sds[1])),
        noise_sds=(float(noise[0]), float(noise[1])),
        population=population,
        correlation=correlation,
        switching_cost=float(rng.integers(2) * rng.uniform(0.0, 0.02) * population * sds.max()),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worlds:
    """Truths drawn from a prior, with the noise that any test of them will meet."""

    arms: TwoArms
    truth: Floats
    noise: Floats

    @classmethod
    def draw(cls, arms: TwoArms, count: int, rng: np.random.Generator) -> Worlds:
        """Draw worlds."""
        truth = rng.multivariate_normal(arms.means, arms.covariance, count, method="eigh")
        return cls(arms=arms, truth=truth, noise=rng.standard_normal((count, 2)))

    def seen(self, sizes: Floats) -> Floats:
        """Means that a test of these sizes shows, array (world, 2)."""
        return np.asarray(self.truth + self.noise * np.array(self.arms.noise_sds) / np.sqrt(sizes), dtype=np.float64)

    def money(self, sizes: Floats, chosen: NDArray[np.bool_]) -> Floats:
        """True expected money by world: the test, then the second arm where chosen, its switch paid."""
        left = self.arms.population - sizes.sum()
        after = np.where(chosen, left * self.truth[:, 1] - self.arms.switching_cost, left * self.truth[:, 0])
        return np.asarray(self.truth @ sizes + after, dtype=np.float64)

    def played(self, sizes: Floats) -> Floats:
        """Money of a test that is decided by the posterior means; sizes of 0 decide at once."""
        arms, means = self.arms, np.array(self.arms.means)
        if not sizes.all():
            return self.money(np.zeros(2), np.full(len(self.truth), _new_now(arms)))
        error = np.diag(np.square(arms.noise_sds) / sizes)
        weight = arms.covariance @ np.linalg.inv(arms.covariance + error)
        believed = means + (self.seen(sizes) - means) @ weight.T
        toll = arms.switching_cost / max(arms.population - sizes.sum(), 1.0)
        return self.money(sizes, believed[:, 1] - toll > believed[:, 0])

    def tested_by_power(self, size: float) -> Floats:
        """Money of a test that rolls the second arm out only where it is significantly better."""
        sizes = np.full(2, size)
        seen = self.seen(sizes)
        error = float(np.sqrt((np.square(self.arms.noise_sds) / sizes).sum()))
        return self.money(sizes, seen[:, 1] - seen[:, 0] > CRITICAL * error)


def _new_now(arms: TwoArms) -> bool:
    return arms.population * arms.means[1] - arms.switching_cost > arms.population * arms.means[0]


def brute_force(worlds: Worlds, points: int) -> Floats:
    """Sizes that earn most over a grid, by playing every pair of them in every world."""
    grid = np.geomspace(1.0, 0.45 * worlds.arms.population, points)
    best, best_money = np.zeros(2), worlds.played(np.zeros(2)).mean()
    for first in grid:
        for second in grid:
            sizes = np.array([first, second])
            earned = worlds.played(sizes).mean()
            if earned > best_money:
                best, best_money = sizes, earned
    return best


def priors_table(priors: int, worlds: int, points: int, rng: np.random.Generator) -> list[str]:
    """One line per random prior: what the planner's size earns of what brute force earns, and against power."""
    lines = [
        "| prior | population | planned | brute force | gain over no test | of the brute-force gain |"
        + "".join(f" against 80 % power at {effect:g} sd |" for effect in EFFECTS),
        "|---|---|---|---|---|---|" + "---|" * len(EFFECTS),
    ]
    shares, wins = [], np.zeros((len(EFFECTS), priors))
    for number in range(priors):
        arms = random_arms(rng)
        planned = np.array(profit_maximizing_test(arms).n_per_arm)
        brute = brute_force(Worlds.draw(arms, worlds, rng), points)
        fresh = Worlds.draw(arms, 20 * worlds, rng)
        none, ours = fresh.played(np.zeros(2)), fresh.played(planned)
        gain, best = float((ours - none).mean()), float((fresh.played(brute) - none).mean())
        share = gain / best if best > 0 else 1.0
        shares.append(share)
        cells = []
        for place, effect in enumerate(EFFECTS):
            noise = float(np.sqrt(np.mean(np.square(arms.noise_sds))))
            size = hypothesis_test_size(effect * arms.difference_sd, noise)
            difference = ours - fresh.tested_by_power(float(np.clip(size, 2.0, 0.45 * arms.population)))
            error = CRITICAL * float(difference.std()) / np.sqrt(len(difference))
            wins[place, number] = difference.mean() - error > 0
            cells.append(f"{difference.mean():+,.4g} ± {error:,.2g}")
        sizes = [" / ".join(f"{size:,.0f}" for size in pair) for pair in (planned, brute)]
        lines.append(
            f"| {number + 1} | {arms.population:,.0f} | {sizes[0]} | {sizes[1]} | {gain:,.4g} | {100 * share:.2f} % | "
            + " | ".join(cells)
            + " |"
        )
        print(lines[-1], flush=True)
    summary = (
        f"Smallest share of the brute-force gain: **{100 * min(shares):.2f} %**. Priors on which the planner's size "
        "earns more than the test sized by power, beyond the 95 % interval: "
        + ", ".join(f"{int(won.sum())} of {priors} ({effect:g} sd)" for won, effect in zip(wins, EFFECTS, strict=True))
        + "."
    )
    return [*lines, "", summary]


def play_market(market: LogLogMarket, horizon: int, seed: int) -> Floats:
    """Money over the horizon by item: no test, the planner's test, a test sized and decided by 80 % power."""
    sales = market.history(np.random.default_rng([seed, 1]))
    panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    sampler = SamplerSettings(draws=250, chains=4)
    fitted = fit_demand(panel, ModelRequest(model="lognormal"), sampler, seed=seed)
    rng = np.random.default_rng([seed, 2])
    rows = []
    for place, item in enumerate(market.items):
        plan = plan_price_test(
            fitted.posterior, Economics(), item, horizon_periods=horizon, goals=TestGoals(),
            limits=[MaxChange(share=0.2)],
        )  # fmt: skip
        rows.append(_play_item(market, place, plan, horizon, rng))
    return np.array(rows)


def _play_item(market: LogLogMarket, place: int, plan: TestPlan, horizon: int, rng: np.random.Generator) -> list[float]:
    arms = plan.priors
    if not isinstance(arms, TwoArms) or plan.prices is None:
        raise TypeError("The plan of one new price has two arms.")
    prices = np.array(plan.prices)
    truth = np.array([market.expected_profit(np.full(len(market.items), price))[place] for price in prices])
    sd = market.settings.noise_sd
    now = horizon * truth[int(_new_now(arms))]

    def sample(size: int) -> Floats:
        noise = np.exp(rng.normal(-0.5 * sd**2, sd, size=(size, 2)))
        return truth * noise

    sizes = np.ceil(plan.test_and_roll.n_per_arm).astype(int)
    ours = now
    if sizes.all():
        most = int(sizes.max())
        seen = np.array([sample(most)[: sizes[arm], arm].mean() for arm in (0, 1)])
        error = np.diag(np.square(arms.noise_sds) / sizes)
        weight = arms.covariance @ np.linalg.inv(arms.covariance + error)
        believed = np.array(arms.means) + weight @ (seen - np.array(arms.means))
        ours = float(truth @ sizes + (horizon - sizes.sum()) * truth[int(believed[1] > believed[0])])
    noise = float(np.sqrt(np.mean(np.square(arms.noise_sds))))
    size = int(np.clip(np.ceil(hypothesis_test_size(arms.difference_sd, noise)), 2, horizon // 2 - 1))
    drawn = sample(size)
    error_sd = float(np.sqrt((drawn.var(axis=0, ddof=1) / size).sum()))
    better = float(np.diff(drawn.mean(axis=0))[0]) > CRITICAL * error_sd
    power = float(size * truth.sum() + (horizon - 2 * size) * truth[int(better)])
    return [float(now), ours, power]


def market_table(markets: int, horizon: int, seed: int) -> list[str]:
    """One line per simulated market, and all items together."""
    lines = [
        "| market | items | deciding now | planner's test | against deciding now | against the 80 % power test |",
        "|---|---|---|---|---|---|",
    ]
    every = []
    for number in range(markets):
        market = draw_log_log(LogLogSettings(), np.random.default_rng([seed + number, 0]))
        every.append(play_market(market, horizon, seed + number))
        lines.append(_market_line(str(number + 1), every[-1]))
        print(lines[-1], flush=True)
    return [*lines, _market_line("all", np.concatenate(every))]


def _market_line(name: str, rows: Floats) -> str:
    now, ours, power = rows.T
    cells = []
    for other in (now, power):
        difference = ours - other
        error = CRITICAL * difference.std(ddof=1) / np.sqrt(len(difference))
        base = 100.0 / other.mean()
        cells.append(f"{difference.mean():+,.0f} ± {error:,.0f} an item ({base * difference.mean():+.2f} %)")
    return f"| {name} | {len(rows)} | {now.mean():,.0f} | {ours.mean():,.0f} | {cells[0]} | {cells[1]} |"


def main() -> None:
    """Run the study and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--priors", type=int, default=20)
    parser.add_argument("--worlds", type=int, default=20_000, help="worlds in which every grid point is played")
    parser.add_argument("--points", type=int, default=24, help="sizes of each arm on the grid")
    parser.add_argument("--markets", type=int, default=4)
    parser.add_argument("--horizon", type=int, default=104, help="weeks that a price is meant for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results/planner_value.md"))
    options = parser.parse_args()
    lines = [
        "# What the planner's size earns",
        "",
        f"{options.priors} random priors of two arms: unequal, correlated, with and without a cost of switching. "
        "Planned",
        f"units per arm against the best of a {options.points} by {options.points} grid, found by playing every pair "
        "in",
        f"{options.worlds:,} worlds, and against tests sized for 80 % power and decided by significance. Money over "
        "the",
        f"population on {20 * options.worlds:,} fresh worlds, paired, with 95 % intervals.",
        "Generated by `python -m simulations.studies.planner_value`.",
        "",
        *priors_table(options.priors, options.worlds, options.points, np.random.default_rng(options.seed)),
        "",
        "## On simulated markets",
        "",
        "Items with log-log demand, fitted to 26 weeks of history with little price variation. One new price per item",
        f"is planned from the posterior, tested and rolled out over {options.horizon} weeks; the power test tries the",
        "same price. True expected money an item over the horizon, paired over items, with 95 % intervals.",
        "",
        *market_table(options.markets, options.horizon, options.seed),
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
