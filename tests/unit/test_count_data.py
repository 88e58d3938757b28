"""Compression of counts: the cells' likelihood is that of the rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from bayes_pricing.demand.count_data import CountData, build_count_data, count_log_likelihood
from bayes_pricing.demand.spec import DemandSpec, Likelihood
from bayes_pricing.errors import SpecError

DISPERSION = 1.7


def sales(rows: int = 400, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    item = rng.integers(0, 6, rows)
    return pl.DataFrame(
        {
            "item": [f"i{at}" for at in item],
            "family": [f"f{at // 2}" for at in item],
            "price": rng.choice([1.0, 1.5, 2.0], rows) * (1.0 + item),
            "quantity": rng.poisson(2.0, rows),
            "exposure": rng.choice([1.0, 2.5], rows),
            "display": rng.integers(0, 2, rows).astype(float),
            "holiday": rng.integers(0, 2, rows).astype(float),
        }
    )


def build(likelihood: Likelihood, frame: pl.DataFrame | None = None) -> CountData:
    spec = DemandSpec(likelihood=likelihood, levels=("family",), controls=("display",), shared_controls=("holiday",))
    return build_count_data(sales() if frame is None else frame, spec)


def row_log_rates(data: CountData, frame: pl.DataFrame, effects: np.ndarray) -> np.ndarray:
    """Log rate of every row from its own columns, item means taken off by hand."""
    place = {name: at for at, name in enumerate(data.items)}
    item = np.array([place[name] for name in frame["item"]])
    columns = np.column_stack([frame["price"].log(), frame["display"], frame["holiday"]])
    means = np.array([columns[item == at].mean(axis=0) for at in range(len(place))])
    rates: np.ndarray = effects[item, 0] + ((columns - means[item]) * effects[item, 1:]).sum(axis=1)
    return rates


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_cells_have_the_likelihood_of_the_rows(likelihood: Likelihood) -> None:
    frame, data = sales(), build(likelihood)
    effects = np.random.default_rng(2).normal(size=(len(data.items), 4))
    mean = frame["exposure"].to_numpy() * np.exp(row_log_rates(data, frame, effects))
    units = frame["quantity"].to_numpy()
    if likelihood == "poisson":
        expected = np.sum(stats.poisson.logpmf(units, mean))
    else:
        expected = np.sum(stats.nbinom.logpmf(units, DISPERSION, DISPERSION / (DISPERSION + mean)))
    compressed = count_log_likelihood(data, (data.predictors * effects[data.item]).sum(axis=1), DISPERSION)
    assert compressed == pytest.approx(expected, rel=1e-11)  # sums of 400 terms in double precision
    assert len(data.item) < frame.height


def test_poisson_adds_exposures_and_negative_binomial_keeps_them_apart() -> None:
    poisson, negative_binomial = build("poisson"), build("negative_binomial")
    total = float(sales()["exposure"].sum())
    assert poisson.exposure.sum() == pytest.approx(total, rel=1e-12)
    assert set(negative_binomial.exposure) == {1.0, 2.5}
    assert (negative_binomial.exposure * negative_binomial.rows).sum() == pytest.approx(total, rel=1e-12)
    assert poisson.total.sum() == negative_binomial.total.sum() == sales()["quantity"].sum()


def test_prices_are_centred_at_the_mean_log_price_of_the_rows() -> None:
    data = build("poisson")
    at = data.items.index("i3")
    expected = sales().filter(pl.col("item") == "i3")["price"].log().mean()
    assert data.centre[at, 1] == pytest.approx(expected, rel=1e-14)
    own = data.item == at
    assert np.average(data.predictors[own, 1], weights=data.rows[own]) == pytest.approx(0.0, abs=1e-14)


def test_order_of_rows_does_not_matter() -> None:
    shuffled = sales().sample(fraction=1.0, shuffle=True, seed=3)
    one, other = build("poisson"), build("poisson", shuffled)
    np.testing.assert_array_equal(one.total, other.total)
    np.testing.assert_allclose(one.predictors, other.predictors, atol=1e-14)  # means sum in another order


def test_fractions_are_no_counts() -> None:
    frame = sales().with_columns(quantity=pl.col("quantity") + 0.5)
    with pytest.raises(SpecError, match=r"400 of 400 quantities are no counts, e\.g\. \d\.5 of 'i\d'.*log-normal"):
        build("poisson", frame)


def test_rows_without_exposure_are_refused() -> None:
    frame = sales().with_columns(exposure=pl.when(pl.int_range(pl.len()) < 3).then(0.0).otherwise("exposure"))
    with pytest.raises(SpecError, match="3 of 400 rows have no positive exposure"):
        build("poisson", frame)


def test_a_lognormal_specification_has_no_cells() -> None:
    with pytest.raises(SpecError, match="counts need poisson or negative_binomial"):
        build_count_data(sales(), DemandSpec(levels=("family",)))
