"""Yogurt: 100 households choosing among four brands, the conditional logit's published estimates."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice import fit_choice, maximise_choice
from bayes_pricing.demand.choice_data import ChoiceData, build_choices
from bayes_pricing.demand.choice_elasticity import choice_elasticities, diversion, market_shares, willingness_to_pay
from tests.support import shared_data

BRANDS = ("yoplait", "dannon", "hiland", "weight")


@cache
def yogurt() -> ChoiceData:
    wide = pl.read_csv(shared_data("yogurt.csv")).with_row_index("trip")
    rows = pl.concat(
        wide.select(
            "trip",
            "id",
            brand=pl.lit(brand),
            bought=(pl.col("choice") == brand).cast(pl.Int8),
            price=f"price.{brand}",
            feature=f"feat.{brand}",
        )
        for brand in BRANDS
    )
    return build_choices(
        rows,
        occasion="trip",
        alternative="brand",
        chosen="bought",
        price="price",
        attributes=("feature",),
        chooser="id",
        base="weight",
    )


def test_maximum_under_flat_priors_is_the_published_likelihood() -> None:
    data = yogurt()
    found = maximise_choice(data)
    at, feature = data.price_at, data.coefficients.index("feature")
    assert found.log_likelihood == pytest.approx(-2656.888, abs=0.001)
    assert found.coefficients[at] == pytest.approx(-0.3666, abs=5e-4)
    assert found.errors[at] == pytest.approx(0.024, abs=5e-4)
    assert found.clustered_errors[at] == pytest.approx(0.054, abs=5e-4)
    assert found.coefficients[feature] == pytest.approx(0.4914, abs=5e-4)
    assert found.errors[feature] == pytest.approx(0.120, abs=1e-3)
    assert found.clustered_errors[feature] == pytest.approx(0.193, abs=1e-3)
    assert -found.coefficients[feature] / found.coefficients[at] == pytest.approx(1.34, abs=0.005)


@pytest.mark.slow
def test_posterior_of_equal_tastes_stands_at_the_maximum() -> None:
    """2,412 choices leave the prior little: means within a tenth of a standard error, sds within a tenth."""
    data = yogurt()
    posterior, found = fit_choice(data, mixed=False, seed=8, draws=400, tune=300), maximise_choice(data)
    draws = posterior.mean.reshape(-1, len(data.coefficients))
    assert np.abs(draws.mean(axis=0) - found.coefficients).max() < 0.15 * found.errors.min() + 0.15 * found.errors.max()
    np.testing.assert_allclose(draws.std(axis=0), found.errors, rtol=0.12)
    assert float(willingness_to_pay(posterior, "feature").median()) == pytest.approx(1.34, abs=0.05)
    elasticity = choice_elasticities(posterior).mean("draw").to_numpy()
    share = market_shares(posterior).mean("draw").to_numpy()
    off = ~np.eye(4, dtype=bool)
    assert (np.diag(elasticity) < -1).all()
    assert (elasticity[off] > 0).all()
    # equal tastes: everybody diverts in proportion to shares
    ratio = diversion(posterior).mean("draw").to_numpy()
    np.testing.assert_allclose(ratio[0, 1:], share[1:] / (1.0 - share[0]), rtol=0.01)
