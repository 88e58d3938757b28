"""A market as a game: expected demand at any prices, sales drawn with common random numbers, the oracle's prices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr, pdtrik

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from simulations.markets.course_optimum import optimal_prices
from simulations.markets.course_truth import ChoiceTruth, choice_shares
from simulations.markets.retail import RetailMarket, retail_panel
from simulations.markets.retail_truth import log_expected_units, retail_optimal_prices

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Arena(Protocol):
    """What a back-test needs of a market; items in the truth's order, prices held to the range posted so far."""

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
    def unit_cost(self) -> Floats:
        """Currency per unit."""
        ...

    @property
    def commission(self) -> float:
        """Share of the price that is paid away."""
        ...

    @property
    def price_range(self) -> tuple[Floats, Floats, Floats]:
        """Lowest, today's and highest price of every item, currency."""
        ...

    @property
    def elasticity(self) -> Floats:
        """True own-price elasticity of every item today."""
        ...

    def sales(self) -> pl.DataFrame:
        """Sales up to today."""
        ...

    def panel(self, sales: pl.DataFrame) -> SalesPanel:
        """Sales with their roles."""
        ...

    def period(self, ahead: int) -> date:
        """First day of a week after the last of the sales, from 1."""
        ...

    def expected_units(self, prices: Floats, ahead: int) -> Floats:
        """Expected units of every item in a week after the last of the sales."""
        ...

    def draw_units(self, expected: Floats, luck: Floats) -> Floats:
        """Units sold, given a standard normal number per item: equal luck, equal quantile."""
        ...

    def best_prices(self, ahead: int) -> Floats:
        """Prices that earn most in expectation: the oracle's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetailArena:
    """The retail market as a game: stock never ends, no displays, costs stay at today's.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> from simulations.markets.retail_settings import RetailMarketSettings
    >>> arena = RetailArena(market=simulate_retail(RetailMarketSettings(), seed=1))
    >>> lowest, today, highest = arena.price_range
    >>> bool(arena.expected_units(lowest, 1).sum() > arena.expected_units(highest, 1).sum())
    True
    """

    market: RetailMarket

    @property
    def items(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.market.truth.items

    @property
    def categories(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.market.truth.categories

    @property
    def category(self) -> Integers:
        """Index of each item's category."""
        return self.market.truth.category

    @property
    def unit_cost(self) -> Floats:
        """Currency per unit."""
        return self.market.truth.unit_cost

    @property
    def commission(self) -> float:
        """Nothing is paid away."""
        return 0.0

    @property
    def price_range(self) -> tuple[Floats, Floats, Floats]:
        """Lowest, today's and highest price of every item, currency."""
        truth = self.market.truth
        return truth.lowest_price, truth.current_price, truth.highest_price

    @property
    def elasticity(self) -> Floats:
        """True own-price elasticity of every item today."""
        return self.market.truth.elasticity

    def sales(self) -> pl.DataFrame:
        """Sales up to today."""
        return self.market.sales

    def panel(self, sales: pl.DataFrame) -> SalesPanel:
        """Sales with their roles; a market with one store has no level for products."""
        return retail_panel(sales)

    def period(self, ahead: int) -> date:
        """First day of a week after the last of the sales, from 1."""
        settings = self.market.truth.settings
        return settings.first_week + timedelta(weeks=settings.weeks - 1 + ahead)

    def expected_units(self, prices: Floats, ahead: int) -> Floats:
        """Expected units of every item in a week after the last of the sales."""
        units: Floats = np.exp(log_expected_units(self.market.truth, prices, ahead))
        return units

    def draw_units(self, expected: Floats, luck: Floats) -> Floats:
        """Log-normal sales around their mean."""
        sd = self.market.truth.noise_sd
        units: Floats = expected * np.exp(sd * luck - sd**2 / 2)
        return units

    def best_prices(self, ahead: int) -> Floats:
        """The oracle's prices."""
        return retail_optimal_prices(self.market.truth, ahead)


class ChoiceMarket(Protocol):
    """A market of segments that choose among items and nothing: courses, or tutoring sessions."""

    @property
    def truth(self) -> ChoiceTruth:
        """What decides expected demand."""
        ...

    def sales(self) -> pl.DataFrame:
        """Weekly sales up to today."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseArena:
    """The course or tutoring market as a game; weekly counts are independent Poisson numbers with the choices' means.

    Examples
    --------
    >>> from simulations.markets.course_settings import CourseMarketSettings
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> arena = CourseArena(market=simulate_courses(settings, seed=1))
    >>> today = arena.price_range[1]
    >>> bool((arena.draw_units(arena.expected_units(today, 1), np.full(40, 9.0)) > 0).all())
    True
    """

    market: ChoiceMarket

    @property
    def truth(self) -> ChoiceTruth:
        """What decides expected demand."""
        return self.market.truth

    @property
    def items(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.truth.items

    @property
    def categories(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.truth.categories

    @property
    def category(self) -> Integers:
        """Index of each item's category."""
        return self.truth.category

    @property
    def unit_cost(self) -> Floats:
        """Currency per enrollment."""
        return self.truth.unit_cost

    @property
    def commission(self) -> float:
        """Share that refunds, payouts or mentors take."""
        return self.truth.commission

    @property
    def price_range(self) -> tuple[Floats, Floats, Floats]:
        """Lowest, today's and highest price of every item, currency."""
        return self.truth.lowest_price, self.truth.current_price, self.truth.highest_price

    @property
    def elasticity(self) -> Floats:
        """True own-price elasticity of every item today."""
        return self.truth.elasticity

    def sales(self) -> pl.DataFrame:
        """Sales up to today."""
        return self.market.sales()

    def panel(self, sales: pl.DataFrame) -> SalesPanel:
        """Sales with their roles; what an hour costs a mentor is an instrument."""
        instruments = ("mentor_cost",) if "mentor_cost" in sales.columns else ()
        return SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns, instruments=instruments))

    def period(self, ahead: int) -> date:
        """First day of a week after the last of the sales, from 1."""
        return self.truth.last_week + timedelta(weeks=ahead)

    def expected_units(self, prices: Floats, ahead: int) -> Floats:
        """Expected enrollments of every course in a week; demand does not change in time."""
        truth = self.truth
        shares = choice_shares(truth.attraction, truth.sensitivity, np.log(prices / truth.current_price))
        return np.asarray((truth.segment_sizes[:, None] * shares).sum(axis=0))

    def draw_units(self, expected: Floats, luck: Floats) -> Floats:
        """Poisson counts at the quantile that the luck stands for."""
        quantile = pdtrik(np.clip(ndtr(luck), 1e-12, 1 - 1e-12), expected)
        units: Floats = np.maximum(np.ceil(np.nan_to_num(quantile)), 0.0)
        return units

    def best_prices(self, ahead: int) -> Floats:
        """The oracle's prices: joint profit over all courses by L-BFGS-B from each course's own best price."""
        truth = self.truth
        start = np.log(optimal_prices(truth, stretch=1.0)["optimal_price"].to_numpy())
        bounds = list(zip(np.log(truth.lowest_price), np.log(truth.highest_price), strict=True))

        def loss(log_prices: Floats) -> tuple[float, Floats]:
            profit, gradient = course_profit(truth, np.exp(log_prices))
            return -profit, -gradient

        found = minimize(loss, start, jac=True, bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-9})
        return np.clip(np.exp(found.x), truth.lowest_price, truth.highest_price)


def course_profit(truth: ChoiceTruth, prices: Floats) -> tuple[float, Floats]:
    r"""Expected weekly profit of all courses together, and its gradient in log prices.

    .. math:: \frac{\partial \Pi}{\partial \log p_k} = \sum_s N_s P_{sk} \Bigl[(1 - \kappa) p_k
              - b_{sk} \bigl(m_k - \sum_j P_{sj} m_j\bigr)\Bigr], \quad m_j = (1 - \kappa) p_j - c_j

    Parameters
    ----------
    truth : ChoiceTruth
    prices : array (item,)
        Currency.

    Examples
    --------
    >>> from simulations.markets.course_settings import CourseMarketSettings
    >>> from simulations.markets.courses import simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth = simulate_courses(settings, seed=1).truth
    >>> up, down = truth.current_price.copy(), truth.current_price.copy()
    >>> up[3], down[3] = up[3] * np.exp(1e-5), down[3] * np.exp(-1e-5)
    >>> slope = (course_profit(truth, up)[0] - course_profit(truth, down)[0]) / 2e-5
    >>> bool(np.isclose(slope, course_profit(truth, truth.current_price)[1][3], rtol=1e-6))
    True
    """
    shares = choice_shares(truth.attraction, truth.sensitivity, np.log(prices / truth.current_price))
    buyers = truth.segment_sizes[:, None] * shares
    kept = (1 - truth.commission) * prices
    margin = kept - truth.unit_cost
    mean_margin = (shares * margin).sum(axis=1, keepdims=True)
    gradient = (buyers * (kept - truth.sensitivity * (margin - mean_margin))).sum(axis=0)
    return float((buyers * margin).sum()), np.asarray(gradient)
