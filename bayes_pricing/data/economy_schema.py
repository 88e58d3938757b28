"""The relational schema of a token market: six tables, and the prices that were posted.

Six tables say who bought what and what it moved: learners, teachers, courses, enrollments, token_transactions and
daily_platform_metrics. A seventh, course_prices, holds the price of every course and week: a week without a sale
leaves no enrollment behind, and its price is what a demand model needs to see. Every enrollment refers to the price
it was posted at. Dates are days; token and cent amounts are whole numbers, so that accounts balance exactly.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
"""The tables below, parents before children in ``METADATA.sorted_tables``."""

LEARNERS = sa.Table(
    "learners",
    METADATA,
    sa.Column("learner_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("signed_up_on", sa.Date, nullable=False),
    sa.Column("sessions_per_week", sa.Float, nullable=False),
    sa.CheckConstraint("sessions_per_week >= 0", name="sessions_not_negative"),
)

TEACHERS = sa.Table(
    "teachers",
    METADATA,
    sa.Column("teacher_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("joined_on", sa.Date, nullable=False),
)

COURSES = sa.Table(
    "courses",
    METADATA,
    sa.Column("course_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("slug", sa.Text, nullable=False, unique=True),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("teacher_id", sa.ForeignKey("teachers.teacher_id"), nullable=False),
    sa.Column("published_on", sa.Date, nullable=False),
    sa.Column("unit_cost_cents", sa.Integer, nullable=False),
    sa.CheckConstraint("unit_cost_cents >= 0", name="unit_cost_not_negative"),
)

COURSE_PRICES = sa.Table(
    "course_prices",
    METADATA,
    sa.Column("course_id", sa.ForeignKey("courses.course_id"), primary_key=True, autoincrement=False),
    sa.Column("week_start", sa.Date, primary_key=True),
    sa.Column("price_tokens", sa.Integer, nullable=False),
    sa.Column("price_cents", sa.Integer, nullable=False),
    sa.CheckConstraint("price_tokens > 0", name="price_tokens_positive"),
    sa.CheckConstraint("price_cents > 0", name="price_cents_positive"),
)

ENROLLMENTS = sa.Table(
    "enrollments",
    METADATA,
    sa.Column("enrollment_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("learner_id", sa.ForeignKey("learners.learner_id"), nullable=False),
    sa.Column("course_id", sa.Integer, nullable=False),
    sa.Column("week_start", sa.Date, nullable=False),
    sa.Column("enrolled_on", sa.Date, nullable=False),
    sa.Column("price_tokens", sa.Integer, nullable=False),
    sa.Column("completion", sa.Float, nullable=False),
    sa.Column("refunded_on", sa.Date),
    sa.ForeignKeyConstraint(["course_id", "week_start"], ["course_prices.course_id", "course_prices.week_start"]),
    sa.UniqueConstraint("learner_id", "enrolled_on"),
    sa.CheckConstraint("enrolled_on >= week_start", name="enrolled_in_its_week"),
    sa.CheckConstraint("price_tokens > 0", name="paid_price_positive"),
    sa.CheckConstraint("completion BETWEEN 0 AND 1", name="completion_is_a_share"),
    sa.CheckConstraint("refunded_on > enrolled_on", name="refunded_after_enrolled"),
    sa.Index("enrollments_by_course_week", "course_id", "week_start"),
)

_OF_LEARNER = "learner_id IS NOT NULL AND teacher_id IS NULL"
_OF_TEACHER = "learner_id IS NULL AND teacher_id IS NOT NULL"
_FOR_COURSE = "enrollment_id IS NOT NULL AND cents = 0"

TRANSACTION_RULES = {
    "purchase": f"{_OF_LEARNER} AND enrollment_id IS NULL AND cents > 0 AND tokens > 0",
    "spend": f"{_OF_LEARNER} AND {_FOR_COURSE} AND tokens < 0",
    "refund": f"{_OF_LEARNER} AND {_FOR_COURSE} AND tokens > 0",
    "payout": f"{_OF_TEACHER} AND {_FOR_COURSE} AND tokens > 0",
}
"""Kinds of token transaction, and whose account each one moves; tokens are positive into that account."""

TOKEN_TRANSACTIONS = sa.Table(
    "token_transactions",
    METADATA,
    sa.Column("transaction_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("happened_on", sa.Date, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("learner_id", sa.ForeignKey("learners.learner_id")),
    sa.Column("teacher_id", sa.ForeignKey("teachers.teacher_id")),
    sa.Column("enrollment_id", sa.ForeignKey("enrollments.enrollment_id")),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("cents", sa.Integer, nullable=False),
    sa.CheckConstraint(
        " OR ".join(f"(kind = '{kind}' AND {rule})" for kind, rule in TRANSACTION_RULES.items()),
        name="kind_fits_its_accounts",
    ),
    sa.Index("token_transactions_by_day", "happened_on"),
)

DAILY_PLATFORM_METRICS = sa.Table(
    "daily_platform_metrics",
    METADATA,
    sa.Column("day", sa.Date, primary_key=True),
    *(
        sa.Column(name, sa.BigInteger, sa.CheckConstraint(f"{name} >= 0"), nullable=False)
        for name in (
            "enrollments",
            "refunds",
            "tokens_spent",
            "tokens_bought",
            "tokens_refunded",
            "tokens_paid_out",
            "tokens_outstanding",
            "cash_in_cents",
        )
    ),
)
