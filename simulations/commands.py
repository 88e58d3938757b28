"""Commands that simulations add to the shell: `simulate` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bayes_pricing.cli.output import Answer, progress_bar


def simulate(
    *,
    out: Path,
    url: str | None = None,
    learners: int = 10_000,
    teachers: int = 500,
    courses: int = 2_000,
    weeks: int = 52,
    enrollments: float = 50_000.0,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Simulate a course market with known truth: six related tables, weekly sales, and the truth apart from both.

    Example: bayes-pricing simulate --out market --courses 500 --enrollments 12500 --seed 7

    Parameters
    ----------
    out
        Folder for truth.json, sales.parquet and, without --url, market.db (SQLite).
    url
        Database for the tables instead, e.g. postgresql://USER@HOST/NAME.
    learners
        Buyers who may enroll each week.
    teachers
        Owners of the courses.
    courses
        Items on sale.
    weeks
        Weeks of sales.
    enrollments
        Expected number of sales over all weeks; what is realised is random around it.
    seed
        Same seed, same market.
    json
        One JSON document on standard output.
    """
    from simulations.markets.course_settings import CourseMarketSettings
    from simulations.markets.courses import simulate_courses, write_market

    settings = CourseMarketSettings(
        learners=learners,
        teachers=teachers,
        courses=courses,
        weeks=weeks,
        expected_enrollments=enrollments,
    )
    with progress_bar() as progress:
        market = simulate_courses(settings, seed, lambda done, label: progress(0.5 * done, label))
        files = write_market(market, out, url, lambda done, label: progress(0.5 + 0.5 * done, label))
    rows = {name: table.height for name, table in market.tables.items()}
    document = {
        "status": "ok",
        "seed": seed,
        "database": _without_password(files.database),
        "sales": str(files.sales),
        "truth": str(files.truth),
        "rows": rows,
    }
    text = "\n".join(
        [
            f"A market of {courses:,} courses and {learners:,} learners over {weeks} weeks, seed {seed}:",
            *(f"  {name:<24}{count:>12,} rows" for name, count in rows.items()),
            f"Tables in {document['database']}, weekly sales in {files.sales}, the truth in {files.truth}.",
        ]
    )
    return Answer(document=document, text=text)


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)
