"""The known truth of a tutoring marketplace: demand in closed form, how long learners stay, what one is worth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulations.markets.course_population import draw_truth
from simulations.markets.course_truth import choice_shares
from simulations.markets.truth_file import read_truth_file, write_truth_file
from simulations.markets.tutoring_settings import CENTS_PER_STEP, CHANNELS, TutoringSettings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_FORMAT = "tutoring-truth/1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TutoringTruth:
    r"""Everything that decides expected bookings; a :class:`simulations.markets.course_truth.ChoiceTruth`.

    Each week each *active* learner of segment s takes one option of a multinomial logit over all sessions and nothing,
    as in the course market. A learner stays active for another week with probability :math:`r_s`; those who leave do
    not come back. New learners arrive as Poisson numbers with mean :math:`N_s (1 - r_s)` a week, so that the number
    of active ones is Poisson with mean :math:`N_s` in every week and expected bookings are

    .. math:: E_j(p) = \sum_s N_s P_{sj}(p)

    Attributes
    ----------
    settings : TutoringSettings
    seed : int
    items, categories : tuple of str
        Sessions, sorted, and their subjects.
    category : array (item,)
        Index of each session's subject.
    mentor : array (item,)
        Index of the mentor who gives it.
    segment_sizes : array (segment,)
        N: expected active learners.
    weekly_stay : array (segment,)
        r: chance to stay another week.
    channel_mix : array (segment, channel)
        Share of a segment's learners that comes by each channel; rows add up to 1.
    acquisition_cost : array (channel,)
        Currency per learner won.
    attraction, sensitivity : array (segment, item)
        Utility at today's prices, and its fall per unit of log price.
    current_price, lowest_price, highest_price : array (item,)
        Currency; today's is the last week's.
    unit_cost : array (item,)
        What a booking costs the platform in currency, the mentor's share apart.
    elasticity : array (item,)
        d log expected bookings / d log own price at today's prices; negative.
    category_mean : array (subject,)
        Means of the distributions that the elasticities are drawn from.
    quality : array (mentor,)
        Mean rating of a mentor's sessions, 1 to 5.

    Examples
    --------
    >>> from simulations.markets.tutoring_settings import TutoringSettings
    >>> truth, posted = draw_tutoring(TutoringSettings(), 1, np.random.default_rng(1))
    >>> truth.attraction.shape, posted.price_cents.shape, round(truth.commission, 2)
    ((6, 480), (480, 52), 0.88)
    """

    settings: TutoringSettings
    seed: int
    items: tuple[str, ...]
    categories: tuple[str, ...]
    category: Integers
    mentor: Integers
    segment_sizes: Integers
    weekly_stay: Floats
    channel_mix: Floats
    acquisition_cost: Floats
    attraction: Floats
    sensitivity: Floats
    current_price: Floats
    lowest_price: Floats
    highest_price: Floats
    unit_cost: Floats
    elasticity: Floats
    category_mean: Floats
    quality: Floats

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def commission(self) -> float:
        """Share of the price that does not stay with the platform: the mentor's."""
        return 1 - self.settings.commission_share

    @property
    def elasticity_mean(self) -> float:
        """Mean of the distribution the subject means are drawn from."""
        return self.settings.choice.elasticity_mean

    @property
    def elasticity_spread(self) -> float:
        """Sd of sessions' elasticities around their subject's mean."""
        return self.settings.choice.elasticity_between_items

    @property
    def last_week(self) -> date:
        """First day of the last week, whose prices are today's."""
        return self.settings.last_week


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostedPrices:
    """What is posted, and what moved it, dims (item, period).

    Attributes
    ----------
    price_cents : int array
    mentor_cost : float array
        Log of what an hour costs the mentor, around its mean: it moves the price and nothing else.
    demand_shock : float array
        Utility of a session in a week above its usual one; prices answer it where they are endogenous.
    """

    price_cents: Integers
    mentor_cost: Floats
    demand_shock: Floats


def draw_tutoring(
    settings: TutoringSettings, seed: int, rng: np.random.Generator
) -> tuple[TutoringTruth, PostedPrices]:
    """Draw a marketplace: its truth and the posted prices.

    Examples
    --------
    >>> truth, posted = draw_tutoring(TutoringSettings(), 1, np.random.default_rng(1))
    >>> bool((posted.price_cents[:, -1] == 100 * truth.current_price).all())
    True
    """
    choice, schedule = draw_truth(settings.choice, seed, rng)
    cents = schedule * settings.choice.cents_per_token
    log_price = np.log(cents / cents.mean(axis=1, keepdims=True))
    shock = settings.demand_shock_sd * rng.standard_normal(cents.shape)
    shock[:, -1] = 0.0  # today is an ordinary week: its prices are those the truth speaks of
    answered = cents * np.exp(settings.price_response * shock)
    cents = np.maximum(np.rint(answered / CENTS_PER_STEP), 1).astype(np.int64) * CENTS_PER_STEP
    price = cents / 100
    stay = np.linspace(settings.weekly_stay_lowest, settings.weekly_stay_highest, settings.segments)
    relative = rng.uniform(0.4, 1.6, len(CHANNELS))
    typical = settings.commission_share * np.exp(np.log(price).mean(axis=1))
    truth = TutoringTruth(
        settings=settings,
        seed=seed,
        items=choice.items,
        categories=choice.categories,
        category=choice.category,
        mentor=rng.integers(0, settings.mentors, settings.sessions),
        segment_sizes=choice.segment_sizes,
        weekly_stay=rng.permutation(stay),
        channel_mix=rng.dirichlet(np.full(len(CHANNELS), 2.0), settings.segments),
        acquisition_cost=np.round(settings.acquisition_cost_mean * relative / relative.mean(), 2),
        attraction=choice.attraction,
        sensitivity=choice.sensitivity,
        current_price=price[:, -1],
        lowest_price=price.min(axis=1),
        highest_price=price.max(axis=1),
        unit_cost=np.round(typical * rng.uniform(0.45, 0.7, settings.sessions), 2),
        elasticity=choice.elasticity,
        category_mean=choice.category_mean,
        quality=rng.uniform(3.2, 4.9, settings.mentors),
    )
    cost = log_price + 0.1 * rng.standard_normal(cents.shape)
    return truth, PostedPrices(price_cents=cents, mentor_cost=np.round(cost, 4), demand_shock=shock)


def weekly_shares(truth: TutoringTruth, price: Floats, demand_shock: Floats) -> Floats:
    """Probability that an active learner of a segment books a session in a week, dims (segment, item).

    Parameters
    ----------
    truth : TutoringTruth
    price : array (item,)
        Currency.
    demand_shock : array (item,)

    Examples
    --------
    >>> truth, _posted = draw_tutoring(TutoringSettings(), 1, np.random.default_rng(1))
    >>> shares = weekly_shares(truth, truth.current_price, np.zeros(480))
    >>> bool(0 < shares.sum(axis=1).min() and shares.sum(axis=1).max() < 1)
    True
    """
    return choice_shares(truth.attraction + demand_shock, truth.sensitivity, np.log(price / truth.current_price))


def true_lifetime(truth: TutoringTruth) -> pl.DataFrame:
    r"""What a new learner is worth at today's prices, by segment, and what winning one costs.

    A learner stays :math:`1 / (1 - r_s)` weeks on average, the first included, so that the value is

    .. math:: V_s = \frac{\sum_j P_{sj} \, (\kappa p_j - c_j)}{1 - r_s}

    with the commission :math:`\kappa` and nothing discounted.

    Returns
    -------
    DataFrame
        `segment`, `weekly_stay`, `expected_weeks`, `weekly_bookings`, `value`, `acquisition_cost` (its mean over the
        segment's channels) and `value_after_acquisition`; money in currency, positive is earned.

    Examples
    --------
    >>> truth, _posted = draw_tutoring(TutoringSettings(), 1, np.random.default_rng(1))
    >>> true_lifetime(truth)["expected_weeks"].max().__round__(6)
    100.0
    """
    shares = weekly_shares(truth, truth.current_price, np.zeros(len(truth.items)))
    margin = (1 - truth.commission) * truth.current_price - truth.unit_cost
    weeks = 1 / (1 - truth.weekly_stay)
    value = (shares * margin).sum(axis=1) * weeks
    cost = (truth.channel_mix * truth.acquisition_cost).sum(axis=1)
    return pl.DataFrame(
        {
            "segment": np.arange(len(weeks)),
            "weekly_stay": truth.weekly_stay,
            "expected_weeks": weeks,
            "weekly_bookings": shares.sum(axis=1),
            "value": value,
            "acquisition_cost": cost,
            "value_after_acquisition": value - cost,
        }
    )


def write_tutoring_truth(truth: TutoringTruth, path: Path) -> None:
    """Write the truth as JSON; every number is read back exactly.

    Examples
    --------
    >>> import tempfile
    >>> truth, _posted = draw_tutoring(TutoringSettings(), 1, np.random.default_rng(1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tutoring_truth(truth, Path(folder) / "truth.json")
    ...     again = read_tutoring_truth(Path(folder) / "truth.json")
    >>> bool((again.sensitivity == truth.sensitivity).all())
    True
    """
    write_truth_file(truth, path, _FORMAT)


def read_tutoring_truth(path: Path) -> TutoringTruth:
    """Read back what :func:`write_tutoring_truth` wrote.

    Raises
    ------
    StorageError
        If the file is missing, no JSON, or of another format.

    Examples
    --------
    >>> read_tutoring_truth(Path("nowhere.json"))
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: nowhere.json is no tutoring-truth/1 file: simulate the market again.
    """
    return read_truth_file(path, _FORMAT, TutoringTruth, TutoringSettings)
