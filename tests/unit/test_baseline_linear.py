from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.baselines.linear import LinearDemand, Pooling
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.errors import PanelError, Refusal, SpecError
from tests.support import shared_data


def counts(seed: int = 1, n_items: int = 12, n_periods: int = 40) -> pl.DataFrame:
    """Two categories with elasticities -1.5 and -3, a shared control worth 0.4, exposure 1 to 3."""
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(n_items), n_periods)
    log_price = rng.choice(np.log([2.0, 2.5, 3.0, 3.5]), item.size)
    display = rng.integers(0, 2, item.size)
    exposure = rng.integers(1, 4, item.size).astype(float)
    slope = np.where(item % 2 == 0, -1.5, -3.0)
    level = rng.normal(2.0, 0.5, n_items)[item]
    mean = exposure * np.exp(level + slope * (log_price - np.log(2.5)) + 0.4 * display)
    return pl.DataFrame(
        {
            "item": [f"i{code:02d}" for code in item],
            "category": np.where(item % 2 == 0, "even", "odd"),
            "period": np.tile(np.arange(n_periods), n_items),
            "price": np.exp(log_price),
            "quantity": rng.poisson(mean).astype(float),
            "display": display,
            "exposure": exposure,
        }
    )


def rows(frame: pl.DataFrame) -> SalesRows:
    return SalesRows(frame=frame, levels=("category",), shared_controls=("display",))


def dummies(frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the item-effects regression written out: two slopes, the control, an intercept per item."""
    log_price = np.log(frame["price"].to_numpy())
    odd = (frame["category"] == "odd").to_numpy()
    item = frame["item"].rank("dense").to_numpy().astype(int) - 1
    intercepts = np.eye(item.max() + 1)[item]
    columns = np.column_stack([log_price * ~odd, log_price * odd, frame["display"].to_numpy(), intercepts])
    return columns, item


def clustered_covariance(columns: np.ndarray, weight: np.ndarray, residual: np.ndarray, item: np.ndarray) -> np.ndarray:
    bread = np.linalg.inv(columns.T @ (columns * weight[:, None]))
    scores = np.stack([(columns * residual[:, None])[item == code].sum(axis=0) for code in range(item.max() + 1)])
    covariance: np.ndarray = bread @ scores.T @ scores @ bread
    return covariance


def test_item_effects_least_squares_equals_the_regression_with_dummies() -> None:
    frame = counts().with_columns(pl.col("quantity") + 1.0)
    columns, item = dummies(frame)
    response = np.log(frame["quantity"].to_numpy() / frame["exposure"].to_numpy())
    expected, *_ = np.linalg.lstsq(columns, response, rcond=None)
    residual = response - columns @ expected
    covariance = clustered_covariance(columns, np.ones(item.size), residual, item)
    effects = LinearDemand(unit_model="log").fit(rows(frame)).effects
    assert_allclose(effects.slopes[:, 0], expected[:2], atol=1e-9)  # both exact up to rounding
    assert_allclose(effects.shared, expected[2], atol=1e-9)
    six_clusters_a_slope = 6 / 5
    assert_allclose(effects.slope_variances(), np.diag(covariance)[:2] * six_clusters_a_slope, rtol=1e-6)
    both = np.array([0.5, 0.5])
    assert_allclose(
        effects.mean_slope_variance(both), both @ covariance[:2, :2] @ both * six_clusters_a_slope, rtol=1e-6
    )


def test_item_effects_poisson_solves_the_likelihood_with_dummies() -> None:
    frame = counts()
    columns, item = dummies(frame)
    units = frame["quantity"].to_numpy()
    exposure = frame["exposure"].to_numpy()
    fitted = LinearDemand(unit_model="counts").fit(rows(frame))
    expected = fitted.predict_units(frame)
    assert_allclose(columns.T @ (units - expected), 0.0, atol=1e-4)  # first-order conditions: the last step times ~1e3
    theta = np.linalg.lstsq(columns, np.log(expected / exposure), rcond=None)[0]
    assert_allclose(theta[:2], fitted.effects.slopes[:, 0], atol=1e-8)
    covariance = clustered_covariance(columns, expected, units - expected, item)
    assert_allclose(fitted.effects.slope_variances(), np.diag(covariance)[:2] * 6 / 5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["pooled", "item_effects"])
def test_adding_up_equal_rows_changes_nothing(pooling: Pooling) -> None:
    frame = counts()
    whole = LinearDemand(pooling=pooling, unit_model="counts").fit(rows(frame)).effects
    noise = np.linspace(0, 1e-9, frame.height)  # no two rows equal any more, so none are added up
    apart = frame.with_columns(display=pl.col("display") + pl.Series(noise))
    split = LinearDemand(pooling=pooling, unit_model="counts").fit(rows(apart)).effects
    assert_allclose(whole.slopes, split.slopes, atol=1e-6)
    assert_allclose(whole.slope_variances(), split.slope_variances(), rtol=1e-5)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_recovers_category_elasticities(seed: int) -> None:
    fitted = LinearDemand().fit(rows(counts(seed=seed, n_items=60)))
    deviation = (fitted.effects.slopes[:, 0] - np.array([-1.5, -3.0])) / np.sqrt(fitted.effects.slope_variances())
    assert fitted.name == "item fixed effects (Poisson)"
    assert (np.abs(deviation) < 4).all()  # two parameters, three seeds: a false alarm in a thousand
    assert (fitted.effects.slope_variances() < 0.1**2).all()
    assert abs(fitted.effects.shared[0] - 0.4) < 0.1


def test_unit_change_of_price_leaves_elasticities_alone() -> None:
    frame = counts()
    euros = LinearDemand().fit(rows(frame)).own_price_elasticity(["i00", "i01"], [2.0, 2.0])
    cents = LinearDemand().fit(rows(frame.with_columns(pl.col("price") * 100)))
    in_cents = cents.own_price_elasticity(["i00", "i01"], [200.0, 200.0])
    assert_allclose(in_cents.mean, euros.mean, rtol=1e-9)
    assert_allclose(in_cents.lower, euros.lower, rtol=1e-7)


def test_price_that_never_moves_gives_no_elasticity() -> None:
    frame = counts().with_columns(pl.when(pl.col("item") == "i00").then(2.0).otherwise("price").alias("price"))
    separate = LinearDemand(pooling="separate").fit(rows(frame))
    own = separate.own_price_elasticity(["i00", "i01", "never seen"], [2.0, 2.0, 2.0])
    assert np.isnan(own.mean[[0, 2]]).all()
    assert own.lower[0] == -np.inf
    assert own.upper[0] == np.inf
    assert own.n_items == (0, 1, 0)
    mean = separate.mean_elasticity(["i00", "i02"], [2.0, 2.0], ["even", "even"])
    assert mean.n_items == (1,)
    assert mean.mean[0] == separate.own_price_elasticity(["i02"], [2.0]).mean[0]


def test_sales_at_one_price_only_have_no_maximum_and_are_not_identified() -> None:
    frame = pl.DataFrame(
        {"item": ["a"] * 6 + ["b"] * 6, "price": [1.0, 2.0] * 6, "quantity": [3.0, 0.0] * 3 + [4.0, 2.0] * 3}
    )
    own = LinearDemand(pooling="separate").fit(SalesRows(frame=frame)).own_price_elasticity(["a", "b"], [1.0, 1.0])
    assert np.isnan(own.mean[0])
    assert_allclose(own.mean[1], -1.0, atol=1e-6)  # units halve when the price doubles


def test_one_item_in_a_category_has_an_elasticity_but_no_clustered_interval() -> None:
    frame = counts().filter(pl.col("item").is_in(["i00", "i01", "i03"]))
    own = LinearDemand().fit(rows(frame)).own_price_elasticity(["i00", "i01"], [2.0, 2.0])
    assert np.isfinite(own.mean).all()
    assert np.isinf(own.lower[0])
    assert np.isfinite(own.lower[1])


def test_an_item_never_seen_is_predicted_from_its_category() -> None:
    fitted = LinearDemand().fit(rows(counts()))
    new = pl.DataFrame(
        {
            "item": ["new", "new"],
            "category": ["even", "even"],
            "price": [2.0, 4.0],
            "display": [0, 0],
            "exposure": [1.0, 2.0],
        }
    )
    low, high = fitted.predict_units(new)
    assert_allclose(np.log(high / low), np.log(2) + fitted.effects.slopes[0, 0] * np.log(2), rtol=1e-9)


def test_an_item_that_never_sold_is_expected_to_sell_a_little() -> None:
    frame = counts().with_columns(pl.when(pl.col("item") == "i00").then(0.0).otherwise("quantity").alias("quantity"))
    expected = LinearDemand().fit(rows(frame)).predict_units(frame.filter(pl.col("item") == "i00"))
    assert_allclose(expected.sum(), 0.5)  # half a unit over the training window


def test_regions_have_their_own_level() -> None:
    frame = pl.DataFrame(
        {
            "item": ["tea"] * 4,
            "region": ["north", "north", "south", "south"],
            "price": [1.0, 2.0, 4.0, 8.0],
            "quantity": [8.0, 2.0, 64.0, 16.0],
        }
    )
    fitted = LinearDemand().fit(SalesRows(frame=frame))
    assert_allclose(fitted.own_price_elasticity(["tea"], [2.0]).mean, [-2.0])
    assert_allclose(fitted.predict_units(frame), frame["quantity"].to_numpy())


def test_log_units_of_zeros_are_refused() -> None:
    with pytest.raises(Refusal, match="log units of zero do not exist"):
        LinearDemand(unit_model="log").fit(rows(counts().with_columns(quantity=0.0)))


def test_wrong_options_and_rows_are_refused() -> None:
    with pytest.raises(SpecError, match="choose one of"):
        LinearDemand(pooling="some")  # type: ignore[arg-type]  # the error under test
    with pytest.raises(SpecError, match="lacks the columns"):
        SalesRows(frame=counts(), controls=("weather",))
    with pytest.raises(SpecError, match="not numbers"):
        SalesRows(frame=counts(), controls=("category",))
    with pytest.raises(PanelError, match="no sales rows"):
        rows(counts().head(0))


def test_published_cheese_elasticities() -> None:
    path = shared_data("cheese.csv")
    frame = pl.read_csv(path).rename({"retailer": "item", "volume": "quantity"})
    cheese = SalesRows(frame=frame, shared_controls=("disp",))
    items = frame["item"].unique().sort().to_list()
    poolings: tuple[Pooling, ...] = ("pooled", "item_effects", "separate")
    means = [
        LinearDemand(pooling=pooling).fit(cheese).mean_elasticity(items, np.ones(88), ["all"] * 88).mean[0]
        for pooling in poolings
    ]
    assert_allclose(means, [-1.258, -2.388, -2.266], atol=5e-4)  # published to three decimals
    own = LinearDemand(pooling="separate").fit(cheese).own_price_elasticity(items, np.ones(88)).mean
    assert (own > 0).sum() == 2
    assert_allclose([own.std(ddof=1), own.min(), own.max()], [1.775, -12.65, 2.86], atol=5e-3)


def test_published_cigarette_elasticities() -> None:
    path = shared_data("cigar_panel.csv")
    frame = pl.read_csv(path).select(
        pl.col("state").cast(pl.String).alias("item"),
        pl.col("year").alias("period"),
        (pl.col("price") / pl.col("cpi")).alias("price"),
        pl.col("sales").alias("quantity"),
        (pl.col("ndi") / pl.col("cpi")).log().alias("log_income"),
    )
    cigars = SalesRows(frame=frame, shared_controls=("log_income",))
    pooled, within = (
        LinearDemand(pooling=pooling).fit(cigars).effects.slopes[0, 0] for pooling in ("pooled", "item_effects")
    )
    assert_allclose([pooled, within], [-0.859, -0.702], atol=5e-4)  # published to three decimals
