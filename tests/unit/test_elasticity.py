from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.elasticity import control_table, elasticity_table, summarize, variation_table
from tests.posteriors import posterior_from_draws


def test_rows_run_from_the_population_to_the_items_and_summarise_their_own_draws() -> None:
    draws = np.random.default_rng(1).normal([-0.5, -2.0, -3.5], 0.2, size=(2000, 3))
    table = elasticity_table(posterior_from_draws(draws))
    assert table["level"].to_list() == ["population", *["category"] * 3, *["item"] * 3]
    items = table.filter(level="item")
    np.testing.assert_allclose(items["mean"].to_numpy(), draws.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(items["lower"].to_numpy(), np.quantile(draws, 0.05, axis=0), rtol=1e-12)
    np.testing.assert_allclose(items["upper"].to_numpy(), np.quantile(draws, 0.95, axis=0), rtol=1e-12)
    np.testing.assert_allclose(items["probability_elastic"].to_numpy(), (draws < -1).mean(axis=0), atol=1e-12)
    assert items["probability"].unique().to_list() == [0.9]
    assert table.filter(level="population")["own_data_weight"].to_list() == [None]


def test_an_item_whose_data_say_nothing_is_prior_only() -> None:
    posterior = posterior_from_draws(np.full((100, 2), -2.0) + np.random.default_rng(2).normal(size=(100, 2)))
    weights = np.array([0.0, 0.3])
    object.__setattr__(posterior, "weight", weights)
    items = elasticity_table(posterior).filter(level="item")
    assert items["prior_only"].to_list() == [True, False]
    assert items["own_data_weight"].to_list() == [0.0, 0.3]


def test_summary_takes_the_probability_asked_for() -> None:
    draws = np.linspace(0.0, 1.0, 1001)[:, None]
    half = summarize(draws, probability=0.5)
    assert half["lower"][0] == pytest.approx(0.25)
    assert half["upper"][0] == pytest.approx(0.75)


def test_variation_has_one_row_per_level_and_coefficient() -> None:
    posterior = posterior_from_draws(np.random.default_rng(3).normal(-2, 0.1, size=(100, 2)))
    table = variation_table(posterior)
    assert table.select("level", "coefficient").rows() == [
        ("item", "level"),
        ("item", "log_price"),
        ("category", "level"),
        ("category", "log_price"),
    ]
    np.testing.assert_allclose(table["mean"].to_numpy(), 0.4)
    assert control_table(posterior).height == 0
