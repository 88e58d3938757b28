"""Policies on a posterior, and the commands that play and calibrate, on small markets."""

from __future__ import annotations

import polars as pl
import pytest

from bayes_pricing.demand.fit import SamplerSettings
from simulations.commands import calibrate
from simulations.markets.arena import RetailArena
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings
from simulations.play import Rules, play
from simulations.policies import Beliefs, every_policy
from simulations.studies.backtest import markdown
from simulations.studies.calibration import calibration_lines, is_calibrated
from simulations.studies.estimators import measure_estimators, summarize_estimators, verdict


@pytest.mark.slow
def test_the_optimiser_leaves_less_than_half_of_what_the_best_strategy_leaves() -> None:
    """Retail base in small, one seed: over twenty seeds of the full size the study holds it with intervals."""
    settings = RetailMarketSettings(categories=3, products=6, stores=1)
    arena = RetailArena(market=simulate_retail(settings, seed=2))
    beliefs = Beliefs(sampler=SamplerSettings(draws=250, chains=4))
    table = play(arena, every_policy(arena, beliefs), Rules(weeks=4))
    regret = dict(table.select("policy", "regret").iter_rows())
    strategies = table.filter(pl.col("kind") == "strategy")["regret"]
    assert regret["oracle"] == 0
    assert (table["regret"] >= 0).all()
    assert regret["Bayesian, risk-neutral"] < 0.5 * float(strategies.min())  # type: ignore[arg-type]
    assert regret["Bayesian, risk-neutral"] <= regret["category-level, posterior"]
    lines = markdown(table.with_columns(seed=1), "Retail", "One market.")
    assert sum(line.startswith("| ") for line in lines) == 1 + table.height


@pytest.mark.slow
def test_estimators_are_measured_against_the_truth() -> None:
    rows = measure_estimators("retail", "base", 1, ("item_effects", "separate", "gam"), 250)
    table = pl.DataFrame(rows)
    assert table["regret"].is_between(0, 0.2).all()
    by_name = {row["estimator"]: row for row in rows}
    # Items differ by sd 0.6 around their category: one slope for all of them misses by that, item by item; a separate
    # regression by its own error, 0.3 / (0.14 x sqrt(78)) = 0.24
    assert 0.4 < by_name["item_effects"]["elasticity_error"] < 0.9  # type: ignore[operator]
    assert 0.15 < by_name["separate"]["elasticity_error"] < 0.4  # type: ignore[operator]
    assert by_name["separate"]["coverage"] > by_name["item_effects"]["coverage"]  # type: ignore[operator]


def test_the_verdict_names_winner_tie_and_loser() -> None:
    def rows(gam: float) -> pl.DataFrame:
        numbers = {"elasticity_error": 1.0, "coverage": 0.9, "width": 1.0, "crps": 0.2, "seconds": 1.0}
        return summarize_estimators(
            pl.DataFrame(
                [
                    {"market": "m", "scenario": "s", "seed": seed, "estimator": name, "refused": None, "regret": regret}
                    | numbers
                    for seed in (1, 2, 3)
                    for name, regret in (("posterior", 0.1), ("gam", gam + 0.001 * seed))
                ]
            )
        )

    assert "the posterior wins" in verdict(rows(0.2))
    assert "tie within error" in verdict(rows(0.098))
    assert "**loses** to gam" in verdict(rows(0.05))


def test_calibration_says_which_parameters_are_outside() -> None:
    table = pl.DataFrame({"parameter": ["a", "b"], "failed": [0, 0], "covers_90": [0.9, 0.5], "inside": [True, False]})
    assert not is_calibrated(table)
    assert calibration_lines(table, 50)[-1].startswith("NOT calibrated: outside their bands: b;")
    assert is_calibrated(table.head(1))


@pytest.mark.slow
def test_calibrate_ranks_every_parameter_of_the_tree() -> None:
    answer = calibrate(simulations=1, processes=1, seed=5)
    names = [row["parameter"] for row in answer.document["parameters"]]  # type: ignore[attr-defined]
    assert "population log_price" in names
    assert "1 markets" in answer.text
