"""The tutoring marketplace: its truth is what it says, nobody beats the oracle, the filter is calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sqlalchemy
import xarray as xr
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]  # it has no types

from bayes_pricing.baselines.linear import LinearDemand
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.data.tutoring import TUTORING, read_tutoring_sales
from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.arena import CourseArena, course_profit
from simulations.markets.course_optimum import optimal_prices
from simulations.markets.course_truth import current_prices, expected_units, true_elasticities
from simulations.markets.tutoring import TutoringMarket, simulate_tutoring, write_tutoring
from simulations.markets.tutoring_settings import SCENARIOS, TutoringSettings, tutoring_scenario
from simulations.markets.tutoring_tasks import (
    attainable_precision,
    attainable_scores,
    expected_auc,
    filter_learners,
    learner_propensities,
    observed_outcomes,
)
from simulations.markets.tutoring_truth import read_tutoring_truth, true_lifetime

SMALL = TutoringSettings(learners=2_000, mentors=30, sessions=60, subjects=6, expected_bookings=12_000)
CUT_OFF = 43


@pytest.fixture(scope="module")
def market() -> TutoringMarket:
    return simulate_tutoring(SMALL, seed=5)


def test_true_elasticities_are_slopes_of_expected_demand(market: TutoringMarket) -> None:
    truth, step = market.truth, 1e-4
    today = current_prices(truth)
    nudge = xr.DataArray(step * np.eye(len(truth.items)), dims=("changed", "item"), coords={"item": list(truth.items)})
    up, down = (expected_units(truth, today * np.exp(sign * nudge)).transpose("changed", "item") for sign in (1, -1))
    slope = np.diagonal(np.log(up.to_numpy() / down.to_numpy())) / (2 * step)
    rows = true_elasticities(truth).filter(pl.col("level") == "item")
    # Central differences err by about step^2 / 6 times the third derivative, of order 1e-8 here.
    np.testing.assert_allclose(slope, rows["elasticity"].to_numpy(), atol=1e-6)


def test_the_oracle_beats_every_other_policy_in_expectation(market: TutoringMarket) -> None:
    arena, truth = CourseArena(market=market), market.truth
    best = course_profit(truth, arena.best_prices(1))[0]
    rng = np.random.default_rng(1)
    lowest, today, highest = arena.price_range
    own = optimal_prices(truth, stretch=1.0)["optimal_price"].to_numpy()
    rivals = [today, own, lowest, highest, np.clip(1.05 * arena.best_prices(1), lowest, highest)]
    rivals += [lowest * (highest / lowest) ** rng.random(today.size) for _ in range(40)]
    assert best > max(course_profit(truth, prices)[0] for prices in rivals)
    # Each session's own best price forgets the other sessions of the same buyers, and is close all the same.
    assert course_profit(truth, own)[0] > course_profit(truth, today)[0]


def test_bookings_scatter_around_what_is_expected_and_are_never_made_to_fit(market: TutoringMarket) -> None:
    posted = market.sales().pivot(on="item", index="period", values="price").drop("period")
    prices = xr.DataArray(posted.to_numpy(), dims=("period", "item"), coords={"item": posted.columns})
    expected = expected_units(market.truth, prices).to_numpy()
    assert expected.sum() == pytest.approx(SMALL.expected_bookings, rel=1e-9)
    booked = market.sales().pivot(on="item", index="period", values="quantity").drop("period").to_numpy()
    assert booked.sum() != SMALL.expected_bookings
    # A session's weekly bookings are Poisson, since active learners are: mean of squares over expectation 1, with a
    # relative sd of about sqrt((2 + 1/3.8) / 3120) = 0.027 and some more as the same learners come back: five of them.
    assert float(((booked - expected) ** 2 / expected).mean()) == pytest.approx(1.0, abs=0.15)


def test_totals_over_seeds_have_the_variance_of_learners_who_come_and_go() -> None:
    settings = TutoringSettings(learners=300, mentors=5, sessions=16, subjects=2, weeks=14, expected_bookings=600)
    totals = np.array([simulate_tutoring(settings, seed).tables["bookings"].height for seed in range(16)])
    # At least Poisson: an sd of 24.5 or more, known to 18 % (a conditioned total would have 0).
    assert totals.std() > 12
    assert totals.mean() == pytest.approx(600, abs=4 * totals.std() / 16**0.5)


def test_active_learners_keep_their_number(market: TutoringMarket) -> None:
    counts = [int(market.stay.active(week).sum()) for week in range(SMALL.weeks)]
    # Poisson with mean 2,000 in every week: sd 45.
    assert min(counts) > 2_000 - 5 * 45
    assert max(counts) < 2_000 + 5 * 45


def test_the_platform_keeps_twelve_per_cent(market: TutoringMarket) -> None:
    bookings = market.tables["bookings"]
    assert market.truth.commission == pytest.approx(0.88)
    assert (100 * bookings["commission_cents"] == 12 * bookings["price_cents"]).all()
    joined = market.tables["learners"].join(bookings, on="learner_id")
    assert (joined["joined_on"] < joined["week_start"]).all()
    assert bookings.select("learner_id", "week_start").is_duplicated().sum() == 0


def test_lifetime_is_what_learners_bring(market: TutoringMarket) -> None:
    life = true_lifetime(market.truth)
    assert life["expected_weeks"].to_numpy() == pytest.approx(1 / (1 - market.truth.weekly_stay))
    seen = market.stay.joined_week > 0
    weeks = (market.stay.last_week - market.stay.joined_week + 1)[seen]
    by_segment = [weeks[market.stay.segment[seen] == segment] for segment in range(6)]
    means = np.array([group.mean() for group in by_segment])
    errors = np.array([group.std() / group.size**0.5 for group in by_segment])
    assert (np.abs(means - life["expected_weeks"].to_numpy()) < 4 * errors).all()


def test_filtered_chances_are_calibrated_and_lie_between_popularity_and_truth(market: TutoringMarket) -> None:
    chances = learner_propensities(market, CUT_OFF)
    outcomes = observed_outcomes(market, CUT_OFF)
    assert chances["learner_id"].equals(outcomes["learner_id"])
    scores = attainable_scores(market, CUT_OFF)
    for task, column in (("books again", "books_again"), ("lapses", "lapses")):
        happened = outcomes[column].to_numpy()
        for given, name in (("tables", f"{column}_best"), ("truth", column)):
            p = chances[name].to_numpy()
            error = np.sqrt((p * (1 - p)).sum()) / p.size
            assert abs(happened.mean() - p.mean()) < 4 * error, (task, given)
            row = scores.filter(task=task, given=given)
            # 2,700 learners: the area under the curve has a standard error of about 0.01.
            assert roc_auc_score(happened, p) == pytest.approx(row["auc"].item(), abs=0.04)
        best, known = scores.filter(task=task)["log_score"]
        rate = happened.mean()
        assert known < best < -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))


def test_chances_are_one_for_the_facts(market: TutoringMarket) -> None:
    known = filter_learners(market, CUT_OFF)
    assert (known.from_truth.sum(axis=1) == market.stay.active(CUT_OFF)[known.learner]).all()
    booked = market.tables["bookings"].filter(
        pl.col("week_start") == pl.lit(SMALL.first_week) + pl.duration(weeks=CUT_OFF)
    )
    here = np.isin(known.learner + 1, booked["learner_id"].to_numpy())
    # Who booked this week is certainly active; of others one can never be sure.
    np.testing.assert_allclose(known.from_tables[here].sum(axis=1), 1.0, rtol=1e-12)
    assert known.from_tables[~here].sum(axis=1).max() < 1


def test_recommendations_by_the_filter_beat_popularity_and_are_beaten_by_the_truth(market: TutoringMarket) -> None:
    table = attainable_precision(market, CUT_OFF)
    popular, tables, truth = (table.filter(given=name).row(0, named=True) for name in ("popularity", "tables", "truth"))
    assert popular["precision"] < tables["precision"] < truth["precision"]
    # 27,000 recommendations, of which some 3 % are booked: standard error 0.1 % (more, as they share learners).
    for row in (popular, tables, truth):
        assert row["realised"] == pytest.approx(row["precision"], abs=0.006)
    with pytest.raises(SpecError, match="recommend 1 to 60 sessions"):
        attainable_precision(market, CUT_OFF, count=61)


def test_endogenous_prices_follow_demand_and_the_instrument_does_not() -> None:
    settings = TutoringSettings(
        learners=2_000, mentors=30, sessions=60, subjects=6, expected_bookings=20_000, demand_shock_sd=0.5,
        price_response=0.3,
    )  # fmt: skip
    market = simulate_tutoring(settings, seed=2)
    posted = market.posted
    shock, cost = posted.demand_shock.ravel(), posted.mentor_cost.ravel()
    price = np.log(posted.price_cents / posted.price_cents.mean(axis=1, keepdims=True)).ravel()
    # 3,120 cells: independent numbers correlate by 0.018; log prices move by 0.3 * 0.5 beside 0.28 of the schedule.
    assert abs(np.corrcoef(shock, cost)[0, 1]) < 0.08
    assert np.corrcoef(shock, price)[0, 1] > 0.3
    assert np.corrcoef(cost, price)[0, 1] > 0.5
    sales = market.sales()
    assert sales.columns[-1] == "mentor_cost"
    truth, calm = market.truth, simulate_tutoring(replace(settings, demand_shock_sd=0.0, price_response=0.0), seed=2)
    naive, right = (
        LinearDemand(pooling="item_effects")
        .fit(SalesRows(frame=frame, levels=("category",)))
        .mean_elasticity(truth.items, truth.current_price, ["all"] * 60)
        .mean[0]
        for frame in (sales, calm.sales())
    )
    # Shocks of 0.5 that move log prices by 0.3 of it, beside a schedule with sd 0.28: 0.3 * 0.25 / (0.0784 + 0.0225)
    # is 0.74 too near zero, before a shock's own bend. Without shocks: sampling error 0.1, and elasticities that bend.
    assert naive - right > 0.4
    assert right == pytest.approx(calm.truth.elasticity.mean(), abs=0.4)
    assert CourseArena(market=market).panel(sales).roles.instruments == ("mentor_cost",)


def test_the_expected_area_is_what_outcomes_average_to() -> None:
    p = np.array([0.05, 0.2, 0.2, 0.35, 0.6, 0.6, 0.9])
    pairs = [(i, j) for i in range(p.size) for j in range(p.size) if i != j]
    weight = np.array([p[i] * (1 - p[j]) for i, j in pairs])
    wins = np.array([(p[i] > p[j]) + 0.5 * (p[i] == p[j]) for i, j in pairs])
    assert expected_auc(p) == pytest.approx((weight * wins).sum() / weight.sum(), rel=1e-12)
    many = np.repeat(p, 300)
    happened = np.random.default_rng(1).random((40, many.size)) < many
    areas = np.array([roc_auc_score(row, many) for row in happened])
    assert areas.mean() == pytest.approx(expected_auc(many), abs=4 * areas.std() / 40**0.5 + 1e-4)


def test_every_scenario_is_reachable_by_name_and_an_unknown_one_is_refused() -> None:
    assert list(SCENARIOS) == ["base", "endogenous", "sparse"]
    assert tutoring_scenario("sparse").weeks == 16
    with pytest.raises(SpecError, match="no scenario 'drift'; choose base, endogenous, sparse"):
        tutoring_scenario("drift")


def test_same_seed_same_market_other_seed_another(market: TutoringMarket) -> None:
    again, other = simulate_tutoring(SMALL, seed=5), simulate_tutoring(SMALL, seed=6)
    for name in TUTORING.tables:
        assert again.tables[name].equals(market.tables[name]), name
    assert not other.sales().equals(market.sales())


def test_written_market_reads_back_the_same(market: TutoringMarket, tmp_path: Path) -> None:
    files = write_tutoring(market, tmp_path / "market")
    assert read_tutoring_sales(files.database).collect().equals(market.sales())
    assert pl.read_parquet(files.sales).equals(market.sales())
    truth = read_tutoring_truth(files.truth)
    assert truth.settings == market.truth.settings
    np.testing.assert_array_equal(truth.segment_sizes, market.truth.segment_sizes)
    assert truth.segment_sizes.dtype == np.int64
    today = current_prices(truth)
    assert expected_units(truth, today).identical(expected_units(market.truth, today))
    with pytest.raises(StorageError, match=r"holds market\.db, truth\.json, sales\.parquet already"):
        write_tutoring(market, tmp_path / "market")


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """The server's database without the tables of a marketplace, before and after."""
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    TUTORING.drop_all(engine)
    yield postgres_url
    TUTORING.drop_all(engine)
    engine.dispose()


@pytest.mark.postgres
def test_tables_fill_a_postgres_database_too(market: TutoringMarket, empty_postgres: str, tmp_path: Path) -> None:
    files = write_tutoring(market, tmp_path / "market", url=empty_postgres)
    assert not (tmp_path / "market" / "market.db").exists()
    assert read_tutoring_sales(files.database).collect().equals(market.sales())
    with pytest.raises(StorageError, match="holds rows in bookings"):
        write_tutoring(market, tmp_path / "again", url=empty_postgres)
