"""What a simulated course market is made of: its size, its demand, its prices and its token economy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from bayes_pricing.errors import SpecError

PRICE_STEP_TOKENS = 20
"""Course prices are multiples of this, so that a payout share in steps of 5 % is a whole number of tokens."""

LOWEST_PRICE_LOG_SD = 0.27
"""Smallest accepted `price_log_sd`: rounding to `PRICE_STEP_TOKENS` costs at most 0.011, so 0.25 always remains."""

CATEGORY_NAMES = (
    "accounting", "biology", "chess", "drawing", "economics", "finance", "guitar", "history",
    "italian", "journalism", "knitting", "law", "marketing", "nutrition", "origami", "python",
)  # fmt: skip

_RANGES: dict[str, tuple[float, float, str]] = {
    "learners": (10, 50_000_000, "buyers who may enroll each week"),
    "teachers": (1, 10_000_000, "owners of the courses"),
    "courses": (2, 1_000_000, "items on sale"),
    "weeks": (14, 520, "weeks of sales"),
    "expected_enrollments": (1.0, 1e9, "expected number of sales over all weeks"),
    "categories": (1, len(CATEGORY_NAMES), "categories, which have names"),
    "segments": (1, 50, "buyer segments"),
    "elasticity_mean": (-6.0, -1.2, "mean own-price elasticity of the population"),
    "elasticity_between_categories": (0.0, 1.0, "sd of category means"),
    "elasticity_between_items": (0.0, 1.0, "sd of items around their category"),
    "segment_offset_sd": (0.0, 1.0, "sd of price sensitivity between segments"),
    "popularity_sd": (0.0, 2.0, "sd of log popularity within a category"),
    "taste_sd": (0.0, 3.0, "sd of a segment's taste for a category"),
    "price_points": (7, 15, "distinct prices of a course"),
    "price_log_sd": (LOWEST_PRICE_LOG_SD, 0.6, "within-course sd of log price"),
    "cents_per_token": (1, 1000, "cents a token costs"),
    "payout_share": (0.0, 0.95, "share of a price that goes to the teacher"),
    "refund_rate": (0.0, 0.5, "share of enrollments that are given back"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseMarketSettings:
    r"""Size, demand, prices and token economy of a simulated course market; ranges are checked when it is made.

    Attributes
    ----------
    learners, teachers, courses, weeks : int
        How many there are; every learner is there from the first week on.
    expected_enrollments : float
        Expected sales over all weeks given the truth and the posted prices; what is realised is random around it.
    categories, segments : int
        Item categories (of equal size up to one course) and latent buyer segments.
    first_week : date
        First day of the first week.
    elasticity_mean, elasticity_between_categories, elasticity_between_items : float
        Category means are drawn from Normal(mean, between_categories^2), item elasticities at today's prices from
        Normal(category mean, between_items^2).
    segment_offset_sd : float
        Sd of the price sensitivity of segments around a course's own; it makes elasticity bend with price.
    popularity_sd : float
        Sd of log popularity of courses within a category.
    taste_sd : float
        Sd of what a segment likes a category more or less than another, in units of utility.
    price_points : int
        Distinct prices each course cycles through.
    price_log_sd : float
        Within-course sd of log price; each course gets between 1 and 1.1 times this.
    cents_per_token : int
        What a learner pays for one token, in cents of the currency.
    payout_share : float
        Share of the price that the teacher gets, a multiple of 0.05.
    refund_rate : float
        Probability that an enrollment is given back within 14 days; nothing is paid out for it.

    Raises
    ------
    SpecError
        If a field is outside its range.

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=200, expected_enrollments=5_000)
    >>> settings.last_week
    datetime.date(2025, 12, 29)
    >>> CourseMarketSettings(price_log_sd=0.1)
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.SpecError: CourseMarketSettings.price_log_sd is 0.1; choose 0.27 to 0.6 (within-course sd of log price).
    """  # noqa: E501 - a traceback cannot be folded

    learners: int = 10_000
    teachers: int = 500
    courses: int = 2_000
    weeks: int = 52
    expected_enrollments: float = 50_000.0
    categories: int = 16
    segments: int = 6
    first_week: date = date(2025, 1, 6)
    elasticity_mean: float = -2.4
    elasticity_between_categories: float = 0.35
    elasticity_between_items: float = 0.5
    segment_offset_sd: float = 0.25
    popularity_sd: float = 0.8
    taste_sd: float = 0.5
    price_points: int = 7
    price_log_sd: float = LOWEST_PRICE_LOG_SD
    cents_per_token: int = 1
    payout_share: float = 0.7
    refund_rate: float = 0.04

    def __post_init__(self) -> None:
        for name, (lowest, highest, meaning) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SpecError(f"CourseMarketSettings.{name} is {value}; choose {lowest} to {highest} ({meaning}).")
        if abs(self.payout_share * 20 - round(self.payout_share * 20)) > 1e-9:
            raise SpecError(
                f"CourseMarketSettings.payout_share is {self.payout_share}; choose a multiple of 0.05, so that every "
                "payout is a whole number of tokens."
            )
        if self.weeks < 2 * self.price_points:
            raise SpecError(
                f"CourseMarketSettings.weeks is {self.weeks} with {self.price_points} price points; each is held for "
                f"at least two weeks, so choose {2 * self.price_points} weeks or more."
            )
        if not self.categories <= self.courses:
            raise SpecError(
                f"CourseMarketSettings.categories is {self.categories} with {self.courses} courses; "
                "choose at least one course per category."
            )
        if not self.purchase_rate <= 0.5:
            raise SpecError(
                f"CourseMarketSettings.expected_enrollments is {self.expected_enrollments}: {self.purchase_rate:.2f} "
                "per learner and week; at most 0.5 is possible here, so take more learners or weeks."
            )

    @property
    def purchase_rate(self) -> float:
        """Expected enrollments per learner and week, in (0, 0.5]."""
        return self.expected_enrollments / (self.learners * self.weeks)

    @property
    def commission(self) -> float:
        """Share of the posted price that does not stay with the platform: payouts and refunds, in [0, 1).

        A refunded enrollment earns nothing and pays nothing out, so 1 - (1 - refund_rate)(1 - payout_share).
        """
        return 1 - (1 - self.refund_rate) * (1 - self.payout_share)

    @property
    def last_week(self) -> date:
        """First day of the last week, whose prices are today's."""
        return self.first_week + timedelta(weeks=self.weeks - 1)

    @property
    def last_day(self) -> date:
        """Day the data end."""
        return self.last_week + timedelta(days=6)
