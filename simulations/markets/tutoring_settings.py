"""What a simulated tutoring marketplace is made of: its size, its demand, its learners' stay and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType

from bayes_pricing.errors import SpecError
from simulations.markets.course_settings import CATEGORY_NAMES, CourseMarketSettings

CENTS_PER_STEP = 100
"""Posted prices are multiples of this, so that a commission in whole per cent is a whole number of cents."""

CHANNELS = ("friends", "partners", "search", "social")
"""Ways in which learners come; each has its cost per learner."""

_CENTS_PER_TOKEN = 5
"""Prices are drawn on the course market's grid of 20 tokens, here 100 cents: 75 to 500 in currency."""

_RANGES: dict[str, tuple[float, float, str]] = {
    "learners": (100, 5_000_000, "learners expected to be active in a week"),
    "mentors": (1, 1_000_000, "people who teach"),
    "sessions": (2, 100_000, "kinds of session on sale"),
    "subjects": (1, len(CATEGORY_NAMES), "subjects, which have names"),
    "weeks": (14, 520, "weeks of bookings"),
    "expected_bookings": (1.0, 1e9, "expected bookings over all weeks"),
    "commission_share": (0.01, 0.5, "share of the price that the platform keeps"),
    "weekly_stay_lowest": (0.5, 0.999, "chance to stay another week of the least loyal segment"),
    "weekly_stay_highest": (0.5, 0.999, "chance to stay another week of the most loyal segment"),
    "acquisition_cost_mean": (0.0, 10_000.0, "mean cost of winning a learner, in currency"),
    "demand_shock_sd": (0.0, 1.0, "sd of weekly demand shocks that mentors see"),
    "price_response": (0.0, 1.0, "how log prices answer those shocks"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TutoringSettings:
    r"""Size, demand, prices, stay and acquisition of a simulated tutoring marketplace; ranges are checked when made.

    Attributes
    ----------
    learners, mentors, sessions, subjects, weeks : int
        Learners expected to be active in a week; mentors, and the kinds of session they sell, each in one subject.
    expected_bookings : float
        Expected bookings over all weeks given the truth and the posted prices, without demand shocks; what is
        realised is random around it.
    segments : int
        Latent kinds of learner, which differ in taste, activity, price sensitivity and loyalty.
    first_week : date
    commission_share : float
        Share of the price that the platform keeps; the rest is the mentor's.
    weekly_stay_lowest, weekly_stay_highest : float
        Segments' chances that an active learner stays another week are spread over this range.
    acquisition_cost_mean : float
        Mean over channels of what it costs to win a learner, in currency.
    demand_shock_sd, price_response : float
        Weekly shocks of the utility of a session, and how the log price that week answers them: above 0, prices are
        endogenous and the sales have a column ``mentor_cost``, which is a valid instrument.

    Raises
    ------
    SpecError
        If a field is outside its range.

    Examples
    --------
    >>> TutoringSettings(weeks=52).last_week
    datetime.date(2025, 12, 29)
    >>> TutoringSettings(commission_share=0.9)
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.SpecError: TutoringSettings.commission_share is 0.9; choose 0.01 to 0.5 (share of the price that the platform keeps).
    """  # noqa: E501 - a traceback cannot be folded

    learners: int = 4_000
    mentors: int = 200
    sessions: int = 480
    subjects: int = 12
    weeks: int = 52
    expected_bookings: float = 30_000.0
    segments: int = 6
    first_week: date = date(2025, 1, 6)
    commission_share: float = 0.12
    weekly_stay_lowest: float = 0.93
    weekly_stay_highest: float = 0.99
    acquisition_cost_mean: float = 15.0
    demand_shock_sd: float = 0.0
    price_response: float = 0.0

    def __post_init__(self) -> None:
        for name, (lowest, highest, meaning) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SpecError(f"TutoringSettings.{name} is {value}; choose {lowest} to {highest} ({meaning}).")
        if not self.weekly_stay_lowest <= self.weekly_stay_highest:
            raise SpecError(
                f"TutoringSettings.weekly_stay_lowest is {self.weekly_stay_lowest}, above weekly_stay_highest "
                f"{self.weekly_stay_highest}; exchange them."
            )
        if abs(self.commission_share * 100 - round(self.commission_share * 100)) > 1e-9:
            raise SpecError(
                f"TutoringSettings.commission_share is {self.commission_share}; choose whole per cent, so that every "
                "commission is a whole number of cents."
            )
        _ = self.choice  # the demand behind it has ranges of its own

    @property
    def choice(self) -> CourseMarketSettings:
        """The same demand as a course market: learners choose among sessions and nothing."""
        return CourseMarketSettings(
            learners=self.learners,
            teachers=self.mentors,
            courses=self.sessions,
            categories=self.subjects,
            weeks=self.weeks,
            segments=self.segments,
            expected_enrollments=self.expected_bookings,
            first_week=self.first_week,
            taste_sd=1.2,
            cents_per_token=_CENTS_PER_TOKEN,
            payout_share=0.0,
            refund_rate=0.0,
        )

    @property
    def last_week(self) -> date:
        """First day of the last week, whose prices are today's."""
        return self.first_week + timedelta(weeks=self.weeks - 1)


SCENARIOS: Mapping[str, TutoringSettings] = MappingProxyType(
    {
        "base": TutoringSettings(),
        "endogenous": TutoringSettings(expected_bookings=60_000.0, demand_shock_sd=0.5, price_response=0.3),
        "sparse": TutoringSettings(weeks=16, expected_bookings=3_000.0),
    }
)
"""Markets by the one trouble each has; ``base`` has none."""


def tutoring_scenario(name: str) -> TutoringSettings:
    """Settings of a scenario by its name.

    Raises
    ------
    SpecError
        If there is no such scenario; the message lists all.

    Examples
    --------
    >>> tutoring_scenario("sparse").weeks
    16
    """
    if name not in SCENARIOS:
        raise SpecError(f"The tutoring market has no scenario {name!r}; choose {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]
