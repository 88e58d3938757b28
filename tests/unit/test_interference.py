from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
import pytest
import xarray as xr

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.interference import TestConditions, advise_design, assign_items, play_designs
from bayes_pricing.experiments.model_response import ModelResponse, Substitution, response_of_model
from bayes_pricing.pricing.profit import Economics
from simulations.markets.substitutes import MarketResponse, SubstituteSettings, draw_substitutes
from tests.posteriors import ArrayPosterior, posterior_from_draws

SETTINGS = SubstituteSettings(categories=8, items_per_category=4)
MARKET = draw_substitutes(SETTINGS, np.random.default_rng(1))
CATEGORIES = tuple(f"c{place // 4}" for place in range(32))


def response_with(cross: float) -> ModelResponse:
    """Items alike with own elasticity -3, and an elasticity to their rivals' prices."""
    ones = np.ones((2, 32))
    return ModelResponse(
        clusters=CATEGORIES, worth=np.stack([np.full(32, 5.0), np.full(32, 6.0)]), log_units=np.log(200.0) * ones,
        own=-3.0 * ones, cross=cross * ones, log_move=float(np.log(1.1)), noise_sd=np.full(32, 0.05), counts=False,
        shock_sd=0.02,
    )  # fmt: skip


def test_the_market_has_the_elasticities_of_its_formula() -> None:
    step = 1e-6
    base = np.log(MARKET.shares(np.zeros((1, 32))))[0]
    moved = np.zeros((1, 32))
    moved[0, 5] = step
    slope = (np.log(MARKET.shares(moved))[0] - base) / step
    shares = np.exp(base)
    own, cross = -SETTINGS.sensitivity * (1 - shares[5]), SETTINGS.sensitivity * shares[5]
    assert slope[5] == pytest.approx(own, rel=1e-4)
    assert slope[[4, 6, 7]] == pytest.approx([cross] * 3, rel=1e-4)
    assert slope[[0, 31]] == pytest.approx([0, 0], abs=1e-9)


def test_the_history_tells_each_item_its_rivals_mean_price() -> None:
    sales = MARKET.history(np.random.default_rng(2))
    last = sales.filter(sales["period"] == date(2025, 12, 29)).sort("item")
    logs = np.log(last["price"].to_numpy()).reshape(8, 4)
    rivals = (logs.sum(axis=1, keepdims=True) - logs) / 3
    assert np.log(last["rival_price"].to_numpy()) == pytest.approx(rivals.ravel())
    assert last["price"].to_numpy() == pytest.approx(MARKET.usual_price)


def test_without_rivals_every_design_is_unbiased() -> None:
    played = play_designs(response_with(0.0), TestConditions(weeks=8), np.random.default_rng(3), plays=60)
    for one in played:
        assert abs(one.bias) < 4 * one.sd / np.sqrt(one.plays), one
        assert one.error == pytest.approx(np.hypot(one.bias, one.sd))
        assert one.effect == pytest.approx(200 * (6 * 1.1**-3 - 5), rel=1e-9)


def test_among_substitutes_items_apart_lie_and_clusters_do_not() -> None:
    rng = np.random.default_rng(4)
    split, clusters, switchback, in_turns = play_designs(
        MarketResponse(market=MARKET, move=0.1), TestConditions(weeks=8), rng, plays=40
    )
    assert split.effect > 0  # raising all prices pays ...
    assert split.bias < -2 * split.effect  # ... and the naive test says that it loses, beyond doubt
    assert split.wrong_sign > 0.9
    for honest in (clusters, switchback):
        assert abs(honest.bias) < 0.2 * abs(split.bias)
        assert honest.coverage > 0.75
    assert in_turns.bias == pytest.approx(split.bias, rel=0.1)  # half of the rivals have the other price here too
    assert advise_design([split, clusters, switchback, in_turns]).kind in ("clusters", "switchback")


def test_what_lingers_spoils_the_switchback() -> None:
    conditions = TestConditions(weeks=8, lingering=0.4)
    rng = np.random.default_rng(5)
    clusters, switchback = play_designs(response_with(1.0), conditions, rng, plays=60, kinds=("clusters", "switchback"))
    assert abs(switchback.bias) > 2 * abs(clusters.bias)


def test_the_model_sees_what_its_cross_prices_imply() -> None:
    naive, honest = play_designs(
        response_with(1.0), TestConditions(weeks=8), np.random.default_rng(6), plays=40, kinds=("split", "clusters")
    )
    # two of four items move: one of a treated item's three rivals, two of a control item's
    seen = 200 * (6 * 1.1 ** (-3 + 1 / 3) - 5 * 1.1 ** (2 / 3))
    true = 200 * (6 * 1.1**-2 - 5)
    assert naive.effect == pytest.approx(true, rel=1e-9)
    assert abs(naive.bias - (seen - true)) < 4 * naive.sd / np.sqrt(naive.plays)
    assert abs(honest.bias) < 0.1 * abs(naive.bias)


def test_a_posterior_becomes_a_place_to_play_in() -> None:
    posterior = posterior_from_draws(np.full((200, 6), -2.0), units=50.0, cost=6.0, smearing=0.02)
    with pytest.raises(SpecError, match="no control 'log_rival_price'"):
        response_of_model(posterior, Economics(), Substitution(level="category", control="log_rival_price", move=0.1))
    with pytest.raises(SpecError, match="no level 'brand'"):
        response_of_model(posterior, Economics(), Substitution(level="brand", control="x", move=0.1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WithRivals(ArrayPosterior):
    """A posterior whose shared control is the log of rivals' mean price, its coefficient 1."""

    def shared(self) -> xr.DataArray:
        chains, draws = self.population_elasticity.shape
        control = {"control": ["log_rival_price"]}
        return xr.DataArray(np.ones((chains, draws, 1)), dims=("chain", "draw", "control"), coords=control)


def test_a_posterior_foresees_what_items_apart_would_show() -> None:
    plain = posterior_from_draws(np.full((50, 12), -3.0), units=200.0, cost=5.0, smearing=0.001)
    made = {part.name: getattr(plain, part.name) for part in fields(plain)}
    posterior = WithRivals(**made | {"spec": replace(plain.spec, shared_controls=("log_rival_price",))})
    rivals = Substitution(level="category", control="log_rival_price", move=0.1, shock_sd=0.02)
    response = response_of_model(posterior, Economics(), rivals)
    rng = np.random.default_rng(8)
    naive, switchback = play_designs(response, TestConditions(weeks=8), rng, plays=40, kinds=("split", "switchback"))
    assert naive.effect == pytest.approx(
        200 * (6 * 1.1**-2 - 5), rel=0.01
    )  # posterior smearing is a tenth of a percent
    assert naive.bias < -3 * abs(naive.effect)
    assert abs(switchback.bias) < 0.1 * abs(naive.bias)
    assert advise_design([naive, switchback]).kind == "switchback"


@pytest.mark.parametrize("kind", ["split", "clusters", "switchback", "items_by_time"])
def test_every_design_gives_both_prices_to_comparable_halves(kind: str) -> None:
    new = assign_items(kind, CATEGORIES, 8, np.random.default_rng(7))  # type: ignore[arg-type]
    assert new.shape == (8, 32)
    if kind == "switchback":
        assert 0 < new[:, 0].sum() < 8
        assert (new == new[:, :1]).all()
    else:
        assert (new.sum(axis=1) == 16).all()


def test_impossible_conditions_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 4"):
        TestConditions(weeks=2)
    with pytest.raises(SpecError, match="lingering"):
        TestConditions(lingering=1.0)
    with pytest.raises(SpecError, match="move"):
        Substitution(level="category", control="x", move=0.0)
