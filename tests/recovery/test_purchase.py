"""A demand with a cliff comes back from counts of offers, where the logistic model would price on the wrong side."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.purchase import fit_purchase
from bayes_pricing.demand.purchase_curve import compare_purchase, expected_revenue, purchase_probability
from bayes_pricing.demand.purchase_data import build_purchases

PRICES = [6.0, 8.0, 10.0, 12.0, 14.0]
TAKEN = np.array([0.62, 0.60, 0.56, 0.15, 0.12])
OFFERS = 600


@pytest.mark.slow
def test_curve_finds_the_cliff_and_loo_chooses_it() -> None:
    seed = 1
    takers = np.random.default_rng(seed).binomial(OFFERS, TAKEN)
    rows = pl.DataFrame({"price": PRICES, "takers": takers, "offers": OFFERS})
    data = build_purchases(rows, price="price", bought="takers", trials="offers")
    logistic, curve = (
        fit_purchase(data, shape, seed=seed, randomised=True, draws=400, tune=400) for shape in ("logistic", "curve")
    )
    compared = compare_purchase(logistic, curve)
    assert compared.chosen == "curve", compared.reason
    assert compared.offers == OFFERS * len(PRICES)
    draws = purchase_probability(curve, PRICES)
    z = (draws.mean("draw").to_numpy() - TAKEN) / np.sqrt(TAKEN * (1 - TAKEN) / OFFERS)
    assert np.abs(z).max() < 4  # five probabilities, binomial errors
    assert (np.diff(draws.to_numpy(), axis=1) <= 0).all()  # falls on every draw
    money = expected_revenue(curve, PRICES)
    assert money.price == 10.0  # 5.6 an offer; 4.8 at 8
    assert float((money.best == 10.0).mean()) > 0.99
    line = purchase_probability(logistic, PRICES).mean("draw").to_numpy()
    assert np.abs(line - TAKEN).max() > 0.08  # what the straight line in the log odds makes of it
