"""The known truth of a course market: expected demand in closed form, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.truth_file import read_truth_file, write_truth_file

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class ChoiceTruth(Protocol):
    """What expected demand and best prices follow from where segments of buyers choose among items and nothing.

    Courses and tutoring sessions are both such markets; the fields are those of :class:`CourseMarketTruth`.
    """

    @property
    def items(self) -> tuple[str, ...]:
        """Names, sorted."""
        ...

    @property
    def categories(self) -> tuple[str, ...]:
        """Names, sorted."""
        ...

    @property
    def category(self) -> Integers:
        """Index of each item's category."""
        ...

    @property
    def segment_sizes(self) -> Integers:
        """Expected buyers per segment who choose in a week."""
        ...

    @property
    def attraction(self) -> Floats:
        """Utility at today's prices, dims (segment, item)."""
        ...

    @property
    def sensitivity(self) -> Floats:
        """Fall of utility per unit of log price, dims (segment, item)."""
        ...

    @property
    def current_price(self) -> Floats:
        """Today's price in currency."""
        ...

    @property
    def lowest_price(self) -> Floats:
        """Lowest posted price in currency."""
        ...

    @property
    def highest_price(self) -> Floats:
        """Highest posted price in currency."""
        ...

    @property
    def unit_cost(self) -> Floats:
        """Cost of one sale to the platform in currency, commission apart."""
        ...

    @property
    def commission(self) -> float:
        """Share of the price that does not stay with the platform."""
        ...

    @property
    def elasticity(self) -> Floats:
        """Own-price elasticity of each item at today's prices."""
        ...

    @property
    def category_mean(self) -> Floats:
        """Mean of the distribution each category's elasticities are drawn from."""
        ...

    @property
    def elasticity_mean(self) -> float:
        """Mean of the distribution the category means are drawn from."""
        ...

    @property
    def elasticity_spread(self) -> float:
        """Sd of items' elasticities around their category's mean."""
        ...

    @property
    def last_week(self) -> date:
        """First day of the last week, whose prices are today's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseMarketTruth:
    r"""Everything that decides expected demand in a course market.

    Each week each learner of segment s takes one option of a multinomial logit over all courses and the outside
    option (utility 0). Course j at price p gives

    .. math:: u_{sj}(p) = a_{sj} - b_{sj} (\log p - \log p^0_j)

    with :math:`p^0_j` today's price. The sensitivities are :math:`b_{sj} = B_j + d_s`, where :math:`B_j` is solved so
    that the own-price elasticity of expected units at today's prices is exactly ``elasticity[j]``.

    Attributes
    ----------
    settings : CourseMarketSettings
    seed : int
    items : tuple of str, length J, sorted
    categories : tuple of str, length C
    category : array (J,)
        Index of each item's category.
    learner_segment : array (learners,)
        Segment of each learner: latent, in no table that a user sees.
    attraction : array (S, J)
        a: utility at today's prices, no unit.
    sensitivity : array (S, J)
        b: fall of utility per unit of log price; below zero for a segment here and there of the few courses whose
        elasticity happens to be near zero, since elasticities are drawn from the normal without cutting it.
    current_price : array (J,)
        Today's price in currency.
    unit_cost : array (J,)
        Cost of one enrollment to the platform in currency, payout apart.
    elasticity : array (J,)
        d log expected units / d log own price at today's prices, the others at today's; negative.
    category_mean : array (C,)
        Mean of the distribution each category's item elasticities are drawn from.
    lowest_price, highest_price : array (J,)
        Range of the posted prices in currency.
    completion_rate : array (S,)
        Probability that a learner finishes a course they keep, by segment.

    Examples
    --------
    >>> from simulations.markets.courses import simulate_courses
    >>> truth = simulate_courses(CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000), seed=1).truth
    >>> truth.attraction.shape, truth.items[0]
    ((6, 40), 'accounting-01')
    """  # noqa: E501 - the example must stand on one line

    settings: CourseMarketSettings
    seed: int
    items: tuple[str, ...]
    categories: tuple[str, ...]
    category: Integers
    learner_segment: Integers
    attraction: Floats
    sensitivity: Floats
    current_price: Floats
    unit_cost: Floats
    elasticity: Floats
    category_mean: Floats
    lowest_price: Floats
    highest_price: Floats
    completion_rate: Floats

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def segment_sizes(self) -> Integers:
        """Learners per segment, dims (segment,)."""
        return np.bincount(self.learner_segment, minlength=self.attraction.shape[0]).astype(np.int64)

    @property
    def commission(self) -> float:
        """Share of the posted price that payouts and refunds take from the platform."""
        return self.settings.commission

    @property
    def elasticity_mean(self) -> float:
        """Mean of the distribution the category means are drawn from."""
        return self.settings.elasticity_mean

    @property
    def elasticity_spread(self) -> float:
        """Sd of items' elasticities around their category's mean."""
        return self.settings.elasticity_between_items

    @property
    def last_week(self) -> date:
        """First day of the last week, whose prices are today's."""
        return self.settings.last_week


def choice_shares(attraction: Floats, sensitivity: Floats, log_ratio: Floats) -> Floats:
    """Probability that a learner of a segment buys a course in a week, dims (segment, item).

    Parameters
    ----------
    attraction, sensitivity : array (segment, item)
    log_ratio : array (item,)
        Log of price over today's price.

    Examples
    --------
    >>> shares = choice_shares(np.zeros((1, 3)), np.ones((1, 3)), np.zeros(3))
    >>> shares.tolist()
    [[0.25, 0.25, 0.25]]
    """
    utility = attraction - sensitivity * log_ratio
    largest = np.maximum(utility.max(axis=1, keepdims=True), 0.0)
    weight = np.exp(utility - largest)
    shares: Floats = weight / (np.exp(-largest) + weight.sum(axis=1, keepdims=True))
    return shares


def solve_sensitivity(attraction: Floats, sizes: Integers, offset: Floats, elasticity: Floats) -> Floats:
    r"""Sensitivities that make the items' elasticities at today's prices exactly what they should be.

    Utilities at today's prices do not depend on the sensitivities, so with
    :math:`w_{sj} = N_s P_{sj} / \sum_r N_r P_{rj}` and :math:`b_{sj} = B_j + d_s`

    .. math:: e_j = -\sum_s w_{sj} (B_j + d_s)(1 - P_{sj})
        \quad\Rightarrow\quad
        B_j = -\frac{e_j + \sum_s w_{sj} d_s (1 - P_{sj})}{\sum_s w_{sj} (1 - P_{sj})}

    Parameters
    ----------
    attraction : array (segment, item)
    sizes : array (segment,)
        Learners per segment.
    offset : array (segment,)
        d: sensitivity of a segment above the course's own.
    elasticity : array (item,)
        Elasticities wanted.

    Returns
    -------
    array (segment, item)

    Examples
    --------
    >>> b = solve_sensitivity(np.zeros((1, 3)), np.array([10]), np.zeros(1), np.array([-1.5, -3.0, -0.75]))
    >>> b.tolist()  # an item that a quarter of learners buy feels three quarters of its price
    [[2.0, 4.0, 1.0]]
    """
    shares = choice_shares(attraction, np.zeros_like(attraction), np.zeros(attraction.shape[1]))
    demand = sizes[:, None] * shares
    weight = demand / demand.sum(axis=0) * (1 - shares)
    common = -(elasticity + (offset[:, None] * weight).sum(axis=0)) / weight.sum(axis=0)
    return common + offset[:, None]


def _price_rows(truth: ChoiceTruth, prices: xr.DataArray) -> tuple[xr.DataArray, Iterator[Floats]]:
    """Prices in the truth's item order, and their rows as log ratios to today's, one per leading index."""
    missing = sorted(set(truth.items) ^ set(prices.coords["item"].values.tolist())) if "item" in prices.coords else []
    if "item" not in prices.coords or missing:
        raise SpecError(
            f"prices must have one value for each of the {len(truth.items)} items along dim 'item'; "
            f"wrong or missing: {missing[:3] or 'the coordinate'}. Start from current_prices(truth)."
        )
    ordered = prices.sel(item=list(truth.items)).transpose(..., "item")
    if not bool((ordered > 0).all()):
        raise SpecError("prices must be positive; a course that is not on sale has no closed-form price here.")
    rows = np.log(ordered.to_numpy().reshape(-1, len(truth.items)) / truth.current_price)
    return ordered, iter(rows)


def current_prices(truth: ChoiceTruth) -> xr.DataArray:
    """Today's prices, dims (item,), in currency: those of the last week.

    Examples
    --------
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth = simulate_courses(settings, seed=1).truth
    >>> float(current_prices(truth).sel(item="accounting-01")) == float(truth.current_price[0])
    True
    """
    return xr.DataArray(truth.current_price.copy(), dims=("item",), coords={"item": list(truth.items)}, name="price")


def expected_units(truth: ChoiceTruth, prices: xr.DataArray) -> xr.DataArray:
    r"""Expected enrollments of each course per week at given prices.

    .. math:: E_j(p) = \sum_s N_s \frac{\exp u_{sj}(p_j)}{1 + \sum_k \exp u_{sk}(p_k)}

    Parameters
    ----------
    truth : CourseMarketTruth
    prices : DataArray, dims (..., item)
        In currency; every item of the market, in any order.

    Returns
    -------
    DataArray, dims (..., item)
        Enrollments per week, refunded ones included; items in the truth's order.

    Raises
    ------
    SpecError
        If an item is missing or unknown, or a price is not positive.

    Examples
    --------
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth = simulate_courses(settings, seed=1).truth
    >>> today = current_prices(truth)
    >>> dearer = expected_units(truth, 1.1 * today)
    >>> bool(dearer.sum() < expected_units(truth, today).sum())
    True
    """
    ordered, rows = _price_rows(truth, prices)
    sizes = truth.segment_sizes[:, None]
    # Products are summed by numpy, not by a matrix product: the last digit of that depends on where arrays lie.
    units = np.array([(sizes * choice_shares(truth.attraction, truth.sensitivity, row)).sum(axis=0) for row in rows])
    return ordered.copy(data=units.reshape(ordered.shape)).rename("expected_units")


def true_elasticities(truth: ChoiceTruth) -> pl.DataFrame:
    """True own-price elasticity at today's prices of every item, every category and the population.

    Rows above the item are means of their level's distribution; beside them stands the mean of the members that
    the market happens to have.

    Returns
    -------
    pl.DataFrame
        `level` (``item``, ``category``, ``population``), `name`, `elasticity` (no unit, negative) and `mean_of_members`
        (of a category's items, of the population's categories; an item's own elasticity).

    Examples
    --------
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> table = true_elasticities(simulate_courses(settings, seed=1).truth)
    >>> table.filter(pl.col("level") == "population").row(0)[:3]
    ('population', 'population', -2.4)
    """
    counts = np.bincount(truth.category, minlength=len(truth.categories))
    members = np.bincount(truth.category, weights=truth.elasticity, minlength=len(truth.categories)) / counts
    mean = truth.elasticity_mean
    return pl.DataFrame(
        {
            "level": ["item"] * len(truth.items) + ["category"] * len(truth.categories) + ["population"],
            "name": [*truth.items, *truth.categories, "population"],
            "elasticity": np.concatenate([truth.elasticity, truth.category_mean, [mean]]),
            "mean_of_members": np.concatenate([truth.elasticity, members, [truth.category_mean.mean()]]),
        }
    )


def true_propensities(truth: CourseMarketTruth) -> pl.DataFrame:
    r"""True weekly purchase probability and price sensitivity of every learner at today's prices.

    Returns
    -------
    pl.DataFrame
        `learner_id`, `segment`, `purchase_probability` (of buying something in a week, 0-1) and `price_elasticity`:
        d log of that probability / d log of all prices at once, :math:`-(1 - P_s) \sum_j b_{sj} P_{sj} / P_s`.

    Examples
    --------
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> table = true_propensities(simulate_courses(settings, seed=1).truth)
    >>> table.height, bool(table["purchase_probability"].is_between(0, 1).all())
    (1000, True)
    """
    shares = choice_shares(truth.attraction, truth.sensitivity, np.zeros(len(truth.items)))
    buying = shares.sum(axis=1)
    elasticity = -(1 - buying) * (truth.sensitivity * shares).sum(axis=1) / buying
    segment = truth.learner_segment
    return pl.DataFrame(
        {
            "learner_id": np.arange(1, segment.size + 1),
            "segment": segment,
            "purchase_probability": buying[segment],
            "price_elasticity": elasticity[segment],
        }
    )


_FORMAT = "course-market-truth/1"


def write_truth(truth: CourseMarketTruth, path: Path) -> None:
    """Write the truth as JSON; every number is read back exactly.

    Examples
    --------
    >>> import tempfile
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth = simulate_courses(settings, seed=1).truth
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_truth(truth, Path(folder) / "truth.json")
    ...     again = read_truth(Path(folder) / "truth.json")
    >>> bool((again.sensitivity == truth.sensitivity).all())
    True
    """
    write_truth_file(truth, path, _FORMAT)


def read_truth(path: Path) -> CourseMarketTruth:
    """Read back what :func:`write_truth` wrote.

    Raises
    ------
    StorageError
        If the file is missing, no JSON, or of another format.

    Examples
    --------
    >>> read_truth(Path("nowhere.json"))
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: nowhere.json is no course-market-truth/1 file: simulate the market again.
    """
    return read_truth_file(path, _FORMAT, CourseMarketTruth, CourseMarketSettings)
