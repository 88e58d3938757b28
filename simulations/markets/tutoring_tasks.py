r"""What can be predicted of a tutoring marketplace at best: who books again, who lapses, which session is next.

Two who predict are told apart. One knows each learner's segment and whether they are still there: no model can. The
other knows what is in the tables up to the day, and the truth of the market: its probabilities are the posterior ones,
so that no model that sees the same tables scores better in expectation. Segments and stays are a hidden Markov chain
with :math:`2 S` states, and its filter is exact:

.. math:: \alpha_s \leftarrow r_s \alpha_s P_{sj} \text{ (booked } j), \quad
          \alpha_s \leftarrow r_s \alpha_s \bigl(1 - \textstyle\sum_j P_{sj}\bigr), \;
          \lambda \leftarrow \lambda + \sum_s (1 - r_s) \alpha_s \text{ (booked nothing)}

with :math:`\alpha_s` the probability of segment s and still active, :math:`\lambda` that of having left. Prices of the
weeks ahead are taken as known; so are demand shocks, where a market has them: there the scores are a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from simulations.markets.tutoring import TutoringMarket
from simulations.markets.tutoring_truth import weekly_shares

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

AGAIN_WEEKS = 4
"""A learner books again if they do within this many weeks."""

LAPSE_WEEKS = 8
"""A learner lapses if they book nothing for this many weeks."""


def _shares(market: TutoringMarket, week: int) -> Floats:
    """Chances to book in a week, dims (segment, item); after the last week prices stay at today's."""
    column = min(week, market.truth.settings.weeks - 1)
    posted = market.posted
    return weekly_shares(market.truth, posted.price_cents[:, column] / 100, posted.demand_shock[:, column])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """Learners who have booked by the end of a week, and the chance of each segment and of still being active.

    Attributes
    ----------
    week : int
        Counted from 0.
    learner : int array (learner,)
        Entries of the market's learners, counted from 0.
    from_tables : array (learner, segment)
        Given all bookings up to that week, the day of joining and the channel.
    from_truth : array (learner, segment)
        One where it is so, zero elsewhere.
    """

    week: int
    learner: Integers
    from_tables: Floats
    from_truth: Floats


def filter_learners(market: TutoringMarket, week: int) -> Known:
    """What is known of each learner at the end of a week.

    Raises
    ------
    SpecError
        If the week is not one of the market's.

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> known = filter_learners(simulate_tutoring(settings, seed=1), 40)
    >>> bool((known.from_tables.sum(axis=1) <= 1 + 1e-12).all()), float(known.from_truth.sum(axis=1).max())
    (True, 1.0)
    """
    truth, stay = market.truth, market.stay
    if not 0 <= week < truth.settings.weeks:
        raise SpecError(f"There is no week {week}; the market has weeks 0 to {truth.settings.weeks - 1}.")
    bookings = market.tables["bookings"].select(
        (pl.col("learner_id") - 1).alias("learner"),
        (pl.col("session_id") - 1).alias("session"),
        ((pl.col("week_start") - pl.lit(truth.settings.first_week)).dt.total_days() // 7).alias("week"),
    )
    by_week = bookings.filter(pl.col("week") <= week).partition_by("week", as_dict=True)
    arrivals = truth.segment_sizes * (1 - truth.weekly_stay)
    tenure = np.maximum(-stay.joined_week, 0)
    active = arrivals * truth.channel_mix.T[stay.channel] * truth.weekly_stay ** tenure[:, None]
    active /= active.sum(axis=1, keepdims=True)
    for t in range(week + 1):
        shares = _shares(market, t)
        here = stay.joined_week <= t
        stays = np.where((stay.joined_week < t) & (t > 0), 1.0, 0.0)[:, None]
        moved = active * (stays * truth.weekly_stay + 1 - stays)
        left = 1 - moved.sum(axis=1, keepdims=True)
        after = moved * (1 - shares.sum(axis=1))
        after /= after.sum(axis=1, keepdims=True) + left
        if (t,) in by_week:
            learner, session = (by_week[(t,)][name].to_numpy() for name in ("learner", "session"))
            booked = moved[learner] * shares.T[session]
            after[learner] = booked / booked.sum(axis=1, keepdims=True)
        active = np.where(here[:, None], after, active)
    learner = bookings.filter(pl.col("week") <= week)["learner"].unique().sort().to_numpy()
    there = stay.active(week)[learner]
    segments = np.arange(truth.segment_sizes.size)
    truly = (stay.segment[learner][:, None] == segments) & there[:, None]
    return Known(week=week, learner=learner, from_tables=active[learner], from_truth=truly.astype(np.float64))


def booking_chances(market: TutoringMarket, week: int, horizon: int) -> tuple[Floats, Floats]:
    r"""Chance that a learner active at the end of a week books within a horizon: anything, and each session.

    .. math:: g_h = (1 - r) + r (1 - q_h)\, g_{h+1}

    is the chance of no booking, with q the weekly chance of any session or of one.

    Returns
    -------
    array (segment,), array (segment, item)

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> anything, each = booking_chances(simulate_tutoring(settings, seed=1), 40, 4)
    >>> bool((each.max(axis=1) < anything).all() and (anything < each.sum(axis=1)).all())
    True
    """
    stay = market.truth.weekly_stay
    none = np.ones(stay.size)
    none_of = np.ones(market.truth.attraction.shape)
    for t in range(week + horizon, week, -1):
        shares = _shares(market, t)
        none = 1 - stay + stay * (1 - shares.sum(axis=1)) * none
        none_of = 1 - stay[:, None] + stay[:, None] * (1 - shares) * none_of
    return 1 - none, 1 - none_of


def learner_propensities(market: TutoringMarket, week: int) -> pl.DataFrame:
    """Chances of every learner who has booked by the end of a week: to book again, and to lapse.

    Returns
    -------
    DataFrame
        `learner_id`, `segment`, `active` (whether still there), `books_again` and `lapses` (true probabilities),
        `books_again_best` and `lapses_best` (the best that can be said from the tables).

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> table = learner_propensities(simulate_tutoring(settings, seed=1), 51)
    >>> table.filter(~pl.col("active"))["books_again"].max()
    0.0
    """
    known = filter_learners(market, week)
    again, lapse = (booking_chances(market, week, horizon)[0] for horizon in (AGAIN_WEEKS, LAPSE_WEEKS))

    def chance(given: Floats, of: Floats) -> Floats:
        return np.asarray((given * of).sum(axis=1))

    return pl.DataFrame(
        {
            "learner_id": known.learner + 1,
            "segment": market.stay.segment[known.learner],
            "active": market.stay.active(week)[known.learner],
            "books_again": chance(known.from_truth, again),
            "lapses": 1 - chance(known.from_truth, lapse),
            "books_again_best": chance(known.from_tables, again),
            "lapses_best": 1 - chance(known.from_tables, lapse),
        }
    )


def observed_outcomes(market: TutoringMarket, week: int) -> pl.DataFrame:
    """What those learners did in the weeks after: `learner_id`, `books_again`, `lapses`.

    Raises
    ------
    SpecError
        If the market ends before a lapse could be seen.

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> outcomes = observed_outcomes(simulate_tutoring(settings, seed=1), 43)
    >>> outcomes.filter("books_again", "lapses").height
    0
    """
    weeks = market.truth.settings.weeks
    if not week + LAPSE_WEEKS < weeks:
        raise SpecError(f"A lapse after week {week} shows by week {week + LAPSE_WEEKS}; the last one is {weeks - 1}.")
    number = (pl.col("week_start") - pl.lit(market.truth.settings.first_week)).dt.total_days() // 7 - week
    ahead = market.tables["bookings"].select("learner_id", number.alias("ahead"))
    first = ahead.filter(pl.col("ahead").is_between(1, LAPSE_WEEKS)).group_by("learner_id").agg(pl.col("ahead").min())
    return (
        ahead.filter(pl.col("ahead") <= 0)
        .select(pl.col("learner_id").unique().sort())
        .join(first, on="learner_id", how="left", maintain_order="left")
        .select(
            "learner_id",
            (pl.col("ahead") <= AGAIN_WEEKS).fill_null(False).alias("books_again"),
            pl.col("ahead").is_null().alias("lapses"),
        )
    )


def expected_auc(chance: Floats) -> float:
    r"""Area under the curve that true probabilities reach on average, ties counted half.

    .. math:: \frac{\sum_{i,j} p_i (1 - p_j) [p_i > p_j]}{\sum_{i,j} p_i (1 - p_j)}

    Examples
    --------
    >>> expected_auc(np.array([1.0, 0.0])), expected_auc(np.array([0.3, 0.3]))
    (1.0, 0.5)
    """
    value, place = np.unique(chance, return_inverse=True)
    happens = np.bincount(place, chance)
    not_happens = np.bincount(place, 1 - chance)
    below = np.cumsum(not_happens) - not_happens
    own = np.bincount(place, chance * (1 - chance))  # a learner is no pair with itself
    ties = (happens * not_happens - own) / 2
    pairs = happens.sum() * not_happens.sum() - own.sum()
    return float(((happens * below).sum() + ties.sum()) / pairs) if value.size and pairs > 0 else float("nan")


def attainable_scores(market: TutoringMarket, week: int) -> pl.DataFrame:
    """The best expected scores of the tasks "books again" and "lapses" at the end of a week.

    Returns
    -------
    DataFrame
        `task`, `given` (``tables``: nobody who sees the same tables does better; ``truth``: segment and stay known),
        `rate` (expected share), `auc`, `log_score` (mean entropy in nats, smaller is better) and `brier`.

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> table = attainable_scores(simulate_tutoring(settings, seed=1), 43)
    >>> best, truth = table.filter(task="books again")["auc"]
    >>> bool(0.5 < best < truth < 1)
    True
    """
    chances = learner_propensities(market, week)
    rows = []
    for task, column in (("books again", "books_again"), ("lapses", "lapses")):
        for given, name in (("tables", f"{column}_best"), ("truth", column)):
            p = chances[name].to_numpy()
            entropy = -(p * np.log(np.maximum(p, 1e-300)) + (1 - p) * np.log(np.maximum(1 - p, 1e-300)))
            rows.append(
                {
                    "task": task,
                    "given": given,
                    "rate": float(p.mean()),
                    "auc": expected_auc(p),
                    "log_score": float(entropy.mean()),
                    "brier": float((p * (1 - p)).mean()),
                }
            )
    return pl.DataFrame(rows)


def attainable_precision(
    market: TutoringMarket, week: int, horizon: int = LAPSE_WEEKS, count: int = 10
) -> pl.DataFrame:
    """How many of the sessions recommended at the end of a week are booked within a horizon, at best.

    Parameters
    ----------
    market : TutoringMarket
    week : int
    horizon : int
        Weeks in which a recommended session may be booked.
    count : int
        Sessions recommended to each learner.

    Returns
    -------
    DataFrame
        `given` (``tables``, ``truth``, or ``popularity``: the same list for all), `precision` (expected share of the
        recommended sessions that are booked) and `realised` (in the bookings that followed; null where they end
        before the horizon).

    Raises
    ------
    SpecError
        If more sessions are asked for than there are.

    Examples
    --------
    >>> from simulations.markets.tutoring import TutoringSettings, simulate_tutoring
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> table = attainable_precision(simulate_tutoring(settings, seed=1), 43)
    >>> table.sort("precision")["given"].to_list()
    ['popularity', 'tables', 'truth']
    """
    truth = market.truth
    if not 1 <= count <= len(truth.items):
        raise SpecError(f"count is {count}; recommend 1 to {len(truth.items)} sessions, which is all there are.")
    known = filter_learners(market, week)
    each = booking_chances(market, week, horizon)[1]
    booked = _booked_after(market, known, horizon)
    chances = {"tables": known.from_tables @ each, "truth": known.from_truth @ each}
    popular = np.broadcast_to(chances["tables"].sum(axis=0), chances["tables"].shape)
    rows = []
    for given, ranked in (*chances.items(), ("popularity", popular)):
        top = np.argpartition(-ranked, count - 1, axis=1)[:, :count]
        expected = chances["truth" if given == "truth" else "tables"]
        hits = None if booked is None else float(np.take_along_axis(booked, top, axis=1).mean())
        precision = float(np.take_along_axis(expected, top, axis=1).mean())
        rows.append({"given": given, "precision": precision, "realised": hits})
    return pl.DataFrame(rows, schema={"given": pl.String, "precision": pl.Float64, "realised": pl.Float64})


def _booked_after(market: TutoringMarket, known: Known, horizon: int) -> NDArray[np.bool_] | None:
    """Whether each learner booked each session within the horizon, dims (learner, item)."""
    if known.week + horizon >= market.truth.settings.weeks:
        return None
    number = (pl.col("week_start") - pl.lit(market.truth.settings.first_week)).dt.total_days() // 7 - known.week
    after = market.tables["bookings"].filter(number.is_between(1, horizon))
    learner, session = (after[name].to_numpy() - 1 for name in ("learner_id", "session_id"))
    place = np.full(market.stay.segment.size, -1)
    place[known.learner] = np.arange(known.learner.size)
    row = place[learner]
    booked = np.zeros((known.learner.size, len(market.truth.items)), dtype=bool)
    booked[row[row >= 0], session[row >= 0]] = True
    return booked
