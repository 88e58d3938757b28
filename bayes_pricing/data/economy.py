"""A token market in a database: made, filled, and read back as weekly sales and sums of money."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from bayes_pricing.data.economy_schema import (
    COURSE_PRICES,
    COURSES,
    ENROLLMENTS,
    METADATA,
    TOKEN_TRANSACTIONS,
    TRANSACTION_RULES,
)
from bayes_pricing.errors import SpecError, StorageError

CHUNK_ROWS = 50_000
"""Rows handed to the database at a time; memory stays bounded however long a table is."""

Progress = Callable[[float, str], None]
"""Called with the finished share of the work, in [0, 1], and what is being done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EconomyMetrics:
    """What a token market did over a window of days, both ends included; sums over the tables, not estimates.

    Attributes
    ----------
    first_day, last_day : date
    enrollments, buyers : int
        Courses taken, and distinct learners who took one.
    refunds : int
        Enrollments given back in the window (taken then or before).
    sales_value, unit_costs : float
        Posted price and unit cost of the enrollments of the window, in currency.
    tokens_spent, tokens_refunded, tokens_bought, tokens_paid_out : int
        Tokens learners spent, got back and bought, and teachers earned; all positive.
    cash_in : float
        What learners paid for tokens, in currency.

    Examples
    --------
    >>> metrics = EconomyMetrics(first_day=date(2025, 1, 6), last_day=date(2025, 1, 12), enrollments=4, buyers=4,
    ...                          refunds=1, sales_value=160.0, unit_costs=20.0, tokens_spent=16_000,
    ...                          tokens_refunded=4_000, tokens_bought=20_000, tokens_paid_out=8_400, cash_in=200.0)
    >>> metrics.average_price
    40.0
    """

    first_day: date
    last_day: date
    enrollments: int
    buyers: int
    refunds: int
    sales_value: float
    unit_costs: float
    tokens_spent: int
    tokens_refunded: int
    tokens_bought: int
    tokens_paid_out: int
    cash_in: float

    @property
    def average_price(self) -> float | None:
        """Mean posted price of the window's enrollments in currency; None where nothing was sold."""
        return self.sales_value / self.enrollments if self.enrollments else None


def _build_engine(url: str, must_exist: bool) -> Engine:
    """Engine of a database; `postgresql://` means the psycopg driver, SQLite enforces foreign keys."""
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise StorageError(f"Database URL {url!r} is neither sqlite:///FILE nor postgresql://HOST/NAME.")
        engine = sa.create_engine(parsed)
    except ArgumentError as error:
        raise StorageError(f"{url!r} is no database URL: write sqlite:///FILE or postgresql://HOST/NAME.") from error
    except ModuleNotFoundError as error:
        raise StorageError("PostgreSQL needs the psycopg driver: install bayes-pricing[postgres].") from error
    if parsed.get_backend_name() == "sqlite":
        if must_exist and not Path(parsed.database or "").is_file():
            raise StorageError(f"There is no database file {parsed.database!r}: check the path, or simulate a market.")
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys = ON"))
    return engine


@contextmanager
def _transaction(url: str, must_exist: bool = True) -> Iterator[Connection]:
    """One transaction on the database; what the database refuses comes out as a StorageError."""
    engine = _build_engine(url, must_exist)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        place = engine.url.render_as_string(hide_password=True)
        raise StorageError(f"The database {place} refused: {reason}. Nothing was changed.") from error
    finally:
        engine.dispose()


def create_economy(url: str, schema: sa.MetaData = METADATA) -> None:
    """Create the empty tables of a market, with their keys and checks; empty ones that are there stay.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
    schema : MetaData
        Tables of the market; those of the token market unless said otherwise.

    Raises
    ------
    StorageError
        If the database cannot be reached or one of the tables holds rows already.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     create_economy(f"sqlite:///{folder}/market.db")
    ...     read_course_sales(f"sqlite:///{folder}/market.db").collect().height
    0
    """
    with _transaction(url, must_exist=False) as connection:
        there = set(sa.inspect(connection).get_table_names()) & set(schema.tables)
        taken = [name for name in sorted(there) if connection.execute(sa.select(schema.tables[name]).limit(1)).first()]
        if taken:
            raise StorageError(
                f"The database holds rows in {', '.join(taken)} already: choose an empty one, or remove these tables."
            )
        schema.create_all(connection)


def write_economy(
    url: str, tables: Mapping[str, pl.DataFrame], progress: Progress | None = None, schema: sa.MetaData = METADATA
) -> None:
    """Fill the tables of a market in one transaction: all rows or none.

    Parameters
    ----------
    url : str
        A database made by :func:`create_economy`.
    tables : mapping of str to pl.DataFrame
        Rows by table name; columns as in the schema. Parents are written before their children.
    progress : callable, optional
        Called with the finished share of the work and a label.
    schema : MetaData
        Tables of the market; those of the token market unless said otherwise.

    Raises
    ------
    SpecError
        If a table or its columns are not those of the schema.
    StorageError
        If a row breaks a key or a check.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     create_economy(f"sqlite:///{folder}/market.db")
    ...     write_economy(f"sqlite:///{folder}/market.db",
    ...                   {"teachers": pl.DataFrame({"teacher_id": [1], "joined_on": [date(2025, 1, 1)]})})
    """
    unknown = sorted(set(tables) - set(schema.tables))
    if unknown:
        raise SpecError(f"Unknown tables {unknown}; the schema has {', '.join(schema.tables)}.")
    for name, frame in tables.items():
        wanted = schema.tables[name].columns.keys()
        if sorted(frame.columns) != sorted(wanted):
            raise SpecError(f"Table {name} has columns {frame.columns}; the schema has {wanted}.")
    total = max(1, sum(frame.height for frame in tables.values()))
    done = 0
    with _transaction(url) as connection:
        for table in schema.sorted_tables:
            for chunk in tables.get(table.name, pl.DataFrame()).iter_slices(CHUNK_ROWS):
                _insert(connection, table, chunk.select(table.columns.keys()))
                done += chunk.height
                if progress is not None:
                    progress(done / total, f"writing {table.name}")


def _insert(connection: Connection, table: sa.Table, rows: pl.DataFrame) -> None:
    """Insert rows whose columns are in the table's order, the fastest way the database has."""
    columns = ", ".join(table.columns.keys())
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(table.columns))
        written = rows.with_columns(pl.col(pl.Date).dt.to_string("%Y-%m-%d")).rows()
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", written)
        return
    import psycopg

    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise StorageError(f"PostgreSQL is reached by {type(raw).__module__}; use the psycopg driver.")
    try:
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN WITH (FORMAT csv)") as copy:
            copy.write(rows.write_csv(include_header=False))
    except psycopg.Error as error:
        reason = str(error).splitlines()[0]
        raise StorageError(f"The database refused rows of {table.name}: {reason}. Nothing was changed.") from error


def in_currency(cents: str) -> pl.Expr:
    """A column of cents as currency, rounded: dividing alone leaves 39.800000000000004 for 3,980 cents.

    Examples
    --------
    >>> pl.DataFrame({"cents": [3_980]}).select(in_currency("cents")).item()
    39.8
    """
    return (pl.col(cents) / 100).round(2)


def course_sales_query() -> sa.Select[tuple[str, str, date, int, int, int]]:
    """The query that turns prices and enrollments into weekly sales: every course and week, those without a sale too.

    Examples
    --------
    >>> print(str(course_sales_query()).split("FROM")[0].split()[0])
    SELECT
    """
    sold = (
        sa.select(ENROLLMENTS.c.course_id, ENROLLMENTS.c.week_start, sa.func.count().label("quantity"))
        .group_by(ENROLLMENTS.c.course_id, ENROLLMENTS.c.week_start)
        .subquery("sold")
    )
    price = COURSE_PRICES.c
    offered = COURSE_PRICES.join(COURSES, COURSES.c.course_id == price.course_id).outerjoin(
        sold, (sold.c.course_id == price.course_id) & (sold.c.week_start == price.week_start)
    )
    return sa.select(
        COURSES.c.slug.label("item"),
        COURSES.c.category,
        price.week_start.label("period"),
        price.price_cents,
        sa.func.coalesce(sold.c.quantity, 0).label("quantity"),
        COURSES.c.unit_cost_cents,
    ).select_from(offered)


def read_course_sales(url: str) -> pl.LazyFrame:
    """Weekly sales of every course from the tables of a token market, weeks without a sale included.

    The database does the counting; what comes over is one row per course and week.

    Parameters
    ----------
    url : str

    Returns
    -------
    pl.LazyFrame
        `item` (the course's slug), `category`, `period` (first day of the week), `price` (posted, in currency),
        `quantity` (enrollments, refunded ones included) and `cost` (unit cost in currency, payout apart), sorted by
        item and period.

    Raises
    ------
    StorageError
        If the database or one of its tables is not there.

    Examples
    --------
    >>> read_course_sales("sqlite:///nowhere.db")
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: There is no database file 'nowhere.db': check the path, or simulate a market.
    """
    columns = {"item": pl.String(), "category": pl.String(), "period": pl.Date()}
    schema: dict[str, pl.DataType] = columns | dict.fromkeys(("price_cents", "quantity", "unit_cost_cents"), pl.Int64())
    frame = read_query(url, course_sales_query(), schema)
    price, cost = in_currency("price_cents").alias("price"), in_currency("unit_cost_cents").alias("cost")
    return frame.lazy().select("item", "category", "period", price, "quantity", cost).sort("item", "period")


def read_query(url: str, query: sa.Select[Any], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows that a query of a market's tables gives, as a frame.

    Parameters
    ----------
    url : str
    query : Select
        Its columns in the order of the schema.
    schema : mapping of column to polars type

    Raises
    ------
    StorageError
        If the database or one of the tables is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     url = f"sqlite:///{folder}/market.db"
    ...     create_economy(url)
    ...     read_query(url, sa.select(sa.func.count()).select_from(COURSES), {"courses": pl.Int64()}).item()
    0
    """
    with _transaction(url) as connection:
        rows = connection.execute(query).fetchall()
    return pl.DataFrame([tuple(row) for row in rows], schema=dict(schema), orient="row")


def read_economy_metrics(url: str, first_day: date, last_day: date) -> EconomyMetrics:
    """What the market did between two days, both included, counted from enrollments and transactions.

    Parameters
    ----------
    url : str
    first_day, last_day : date

    Raises
    ------
    SpecError
        If the window is empty.
    StorageError
        If the database or one of its tables is not there.

    Examples
    --------
    >>> read_economy_metrics("sqlite:///market.db", date(2025, 2, 1), date(2025, 1, 1))
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.SpecError: The window 2025-02-01 to 2025-01-01 is empty: the first day must not be after the last.
    """  # noqa: E501 - a traceback cannot be folded
    if first_day > last_day:
        raise SpecError(f"The window {first_day} to {last_day} is empty: the first day must not be after the last.")
    taken, price = ENROLLMENTS.c, COURSE_PRICES.c
    bought = (
        sa.select(
            sa.func.count().label("enrollments"),
            sa.func.count(sa.distinct(taken.learner_id)).label("buyers"),
            sa.func.coalesce(sa.func.sum(price.price_cents), 0).label("sales_cents"),
            sa.func.coalesce(sa.func.sum(COURSES.c.unit_cost_cents), 0).label("cost_cents"),
        )
        .select_from(ENROLLMENTS)
        .join(COURSE_PRICES, (price.course_id == taken.course_id) & (price.week_start == taken.week_start))
        .join(COURSES, COURSES.c.course_id == taken.course_id)
        .where(taken.enrolled_on.between(first_day, last_day))
    )
    moved = TOKEN_TRANSACTIONS.c
    flows = (
        sa.select(moved.kind, sa.func.count(), sa.func.sum(moved.tokens), sa.func.sum(moved.cents))
        .where(moved.happened_on.between(first_day, last_day))
        .group_by(moved.kind)
    )
    with _transaction(url) as connection:
        sales = connection.execute(bought).one()
        by_kind = {kind: (int(n), int(tokens), int(cents)) for kind, n, tokens, cents in connection.execute(flows)}
    count, tokens, cents = ({kind: by_kind.get(kind, (0, 0, 0))[k] for kind in TRANSACTION_RULES} for k in range(3))
    return EconomyMetrics(
        first_day=first_day,
        last_day=last_day,
        enrollments=sales.enrollments,
        buyers=sales.buyers,
        refunds=count["refund"],
        sales_value=int(sales.sales_cents) / 100,
        unit_costs=int(sales.cost_cents) / 100,
        tokens_spent=-tokens["spend"],
        tokens_refunded=tokens["refund"],
        tokens_bought=tokens["purchase"],
        tokens_paid_out=tokens["payout"],
        cash_in=cents["purchase"] / 100,
    )
