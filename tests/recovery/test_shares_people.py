"""People of one market differ: their spread and where they go come back from simulated shares."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.choice_elasticity import choice_elasticities, market_shares
from bayes_pricing.demand.shares_data import ShareData, build_shares
from bayes_pricing.demand.shares_fit import report_share_instruments
from bayes_pricing.demand.shares_people import fit_people_shares

MARKETS, PRODUCTS = 40, 6
PRICE, PRICE_SD = -2.0, 1.2
LEVEL = np.array([2.0, 2.5, 3.0, 4.0, 4.5, 5.0])
CHEAP_TO_DEAR = np.array([1.0, 1.2, 1.4, 2.4, 2.7, 3.0])


def simulate(seed: int) -> tuple[ShareData, Floats]:
    """Cheap and dear products, people who mind prices differently, a price that follows demand; and true elasticities.

    With 4,000 people drawn anew, so that the fit's own few are no advantage. Elasticities are those of everything at
    its mean.
    """
    rng = np.random.default_rng(seed)
    cost, unseen, whim = rng.normal(size=(3, MARKETS, PRODUCTS))
    unseen = 0.4 * unseen
    price = CHEAP_TO_DEAR + 0.25 * cost + 0.3 * unseen + 0.1 * whim
    taste = PRICE + PRICE_SD * rng.standard_normal((4000, 1))
    share = np.stack([chances(LEVEL + unseen[t] + taste * price[t]).mean(axis=0) for t in range(MARKETS)])
    city, brand = np.indices(price.shape)
    rows = pl.DataFrame(
        {
            "city": city.ravel(),
            "brand": [f"b{at}" for at in brand.ravel()],
            "share": share.ravel(),
            "price": price.ravel(),
            "cost": cost.ravel(),
        }
    )
    data = build_shares(rows, market=["city"], product="brand", share="share", price="price", instruments=["cost"])
    middle = data.product_means(data.price)
    each = chances(LEVEL + taste * middle)
    slopes = -np.einsum("p,pj,pk->jk", taste[:, 0], each, each) / len(taste)
    slopes[np.diag_indices(PRODUCTS)] += (taste * each).mean(axis=0)
    return data, slopes * middle / each.mean(axis=0)[:, None]


def chances(utility: Floats) -> Floats:
    weight = np.exp(utility)
    found: Floats = weight / (1.0 + weight.sum(axis=-1, keepdims=True))
    return found


@pytest.mark.slow
def test_cross_elasticities_come_back_where_the_plain_logits_are_wrong() -> None:
    data, truth = simulate(seed=3)
    posterior = fit_people_shares(data, tastes=["price"], instrumented=True, seed=3, people=40, draws=300, tune=80)
    assert posterior.diagnostics.passed
    spread = posterior.between_sd().sel(taste="price")
    assert abs(float(spread.mean()) - PRICE_SD) < 4 * float(spread.std())
    assert float(spread.std()) < 0.25 * 0.7 * data.per_elasticity  # of the prior's scale
    price = posterior.base.price_coefficient
    assert abs(price.mean() - PRICE) < 4 * price.std()
    found = choice_elasticities(posterior).to_numpy()[:, :-1, :-1]
    z = (found.mean(axis=0) - truth) / found.std(axis=0)
    assert np.abs(z).max() < 5  # of 36 elasticities, few of them independent
    report = report_share_instruments(data)
    slope = report.two_stage.elasticity * data.per_elasticity  # the plain logit's, prices that follow demand undone
    share = market_shares(posterior).mean("draw").to_numpy()[:-1]
    wrong = slope * data.product_means(data.price) * (np.eye(PRODUCTS) - share)
    off = ~np.eye(PRODUCTS, dtype=bool)
    errors = [np.abs(np.log(one[off] / truth[off])).mean() for one in (found.mean(axis=0), wrong)]
    assert errors[0] < 0.1
    assert errors[1] > 3 * errors[0]  # more markets shrink the first alone
    near, alike = truth[1, 0] / truth[5, 0], wrong[1, 0] / wrong[5, 0]
    assert alike == pytest.approx(1.0, abs=1e-9)  # everybody's buyers leave alike, says the plain logit
    assert near > 3.0  # those of the cheapest product go to the next cheap one and not to the dearest
    assert found[:, 1, 0].mean() / found[:, 5, 0].mean() == pytest.approx(near, rel=0.15)
