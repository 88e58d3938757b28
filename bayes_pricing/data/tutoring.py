"""The relational schema of a tutoring marketplace, and its weekly sales.

Five tables say who offers what at which price and who booked it: learners (with the channel they came by and what
winning them cost), mentors, sessions (the kinds a mentor sells), session_prices (the posted price of every session and
week) and bookings. Every booking refers to the price it was posted at. Dates are days; money is in whole cents.
"""

from __future__ import annotations

import polars as pl
import sqlalchemy as sa

from bayes_pricing.data.economy import in_currency, read_query

TUTORING = sa.MetaData()
"""The tables below, parents before children in ``TUTORING.sorted_tables``."""

LEARNERS = sa.Table(
    "learners",
    TUTORING,
    sa.Column("learner_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("joined_on", sa.Date, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("acquisition_cost_cents", sa.Integer, nullable=False),
    sa.CheckConstraint("acquisition_cost_cents >= 0", name="acquisition_cost_not_negative"),
)

MENTORS = sa.Table(
    "mentors",
    TUTORING,
    sa.Column("mentor_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("joined_on", sa.Date, nullable=False),
)

SESSIONS = sa.Table(
    "sessions",
    TUTORING,
    sa.Column("session_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("slug", sa.Text, nullable=False, unique=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("mentor_id", sa.ForeignKey("mentors.mentor_id"), nullable=False),
    sa.Column("unit_cost_cents", sa.Integer, nullable=False),
    sa.CheckConstraint("unit_cost_cents >= 0", name="unit_cost_not_negative"),
)

SESSION_PRICES = sa.Table(
    "session_prices",
    TUTORING,
    sa.Column("session_id", sa.ForeignKey("sessions.session_id"), primary_key=True, autoincrement=False),
    sa.Column("week_start", sa.Date, primary_key=True),
    sa.Column("price_cents", sa.Integer, nullable=False),
    sa.Column("mentor_cost", sa.Float),
    sa.CheckConstraint("price_cents > 0", name="price_positive"),
)

BOOKINGS = sa.Table(
    "bookings",
    TUTORING,
    sa.Column("booking_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("learner_id", sa.ForeignKey("learners.learner_id"), nullable=False),
    sa.Column("session_id", sa.Integer, nullable=False),
    sa.Column("week_start", sa.Date, nullable=False),
    sa.Column("booked_on", sa.Date, nullable=False),
    sa.Column("price_cents", sa.Integer, nullable=False),
    sa.Column("commission_cents", sa.Integer, nullable=False),
    sa.Column("rating", sa.Integer),
    sa.ForeignKeyConstraint(["session_id", "week_start"], ["session_prices.session_id", "session_prices.week_start"]),
    sa.UniqueConstraint("learner_id", "week_start"),
    sa.CheckConstraint("booked_on >= week_start", name="booked_in_its_week"),
    sa.CheckConstraint("commission_cents BETWEEN 0 AND price_cents", name="commission_is_a_part"),
    sa.CheckConstraint("rating BETWEEN 1 AND 5", name="rating_has_five_steps"),
    sa.Index("bookings_by_session_week", "session_id", "week_start"),
)


def read_tutoring_sales(url: str) -> pl.LazyFrame:
    """Weekly bookings of every session from the tables of a tutoring marketplace, weeks without one included.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.

    Returns
    -------
    pl.LazyFrame
        `item` (the session's slug), `category` (its subject), `period` (first day of the week), `price` (posted, in
        currency), `quantity` (bookings), `cost` (unit cost in currency, the mentor's share apart) and, where it was
        written down, `mentor_cost` (log of what an hour costs the mentor: an instrument), sorted by item and period.

    Raises
    ------
    StorageError
        If the database or one of its tables is not there.

    Examples
    --------
    >>> read_tutoring_sales("sqlite:///nowhere.db")
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: There is no database file 'nowhere.db': check the path, or simulate a market.
    """
    booked = (
        sa.select(BOOKINGS.c.session_id, BOOKINGS.c.week_start, sa.func.count().label("quantity"))
        .group_by(BOOKINGS.c.session_id, BOOKINGS.c.week_start)
        .subquery("booked")
    )
    price = SESSION_PRICES.c
    offered = SESSION_PRICES.join(SESSIONS, SESSIONS.c.session_id == price.session_id).outerjoin(
        booked, (booked.c.session_id == price.session_id) & (booked.c.week_start == price.week_start)
    )
    query = sa.select(
        SESSIONS.c.slug,
        SESSIONS.c.subject,
        price.week_start,
        price.price_cents,
        sa.func.coalesce(booked.c.quantity, 0),
        SESSIONS.c.unit_cost_cents,
        price.mentor_cost,
    ).select_from(offered)
    schema: dict[str, pl.DataType] = {
        "item": pl.String(),
        "category": pl.String(),
        "period": pl.Date(),
        "price_cents": pl.Int64(),
        "quantity": pl.Int64(),
        "unit_cost_cents": pl.Int64(),
        "mentor_cost": pl.Float64(),
    }
    frame = read_query(url, query, schema)
    known = [] if frame["mentor_cost"].is_null().all() else ["mentor_cost"]
    price_column, cost = in_currency("price_cents").alias("price"), in_currency("unit_cost_cents").alias("cost")
    columns = ["item", "category", "period", price_column, "quantity", cost, *known]
    return frame.lazy().select(columns).sort("item", "period")
