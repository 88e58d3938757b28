"""Where sales come from: frames of any kind, CSV and Parquet files, databases by URL."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import narwhals as nw
import polars as pl

from bayes_pricing.errors import PanelError, Problem

if TYPE_CHECKING:
    import pandas as pd

READ_AT_ONCE_BYTES = 256 * 2**20
"""CSV files up to this size are read once into memory; larger ones are scanned on every pass."""

_BATCH_ROWS = 50_000


def frame_from_any(frame: object) -> pl.LazyFrame:
    """Take a frame of any kind that narwhals knows as a lazy polars frame.

    polars lazy frames stay lazy; others (pandas, Arrow, a DuckDB relation, Dask) are brought into memory.

    Raises
    ------
    PanelError
        If it is no frame.

    Examples
    --------
    >>> import pandas as pd
    >>> frame_from_any(pd.DataFrame({"price": [1.5, "two"]})).collect().to_dict(as_series=False)
    {'price': ['1.5', 'two']}
    """
    if isinstance(frame, pl.LazyFrame):
        return frame
    if isinstance(frame, pl.DataFrame):
        return frame.lazy()
    native = nw.from_native(_texts_apart(frame), pass_through=True)
    if isinstance(native, nw.LazyFrame):
        native = native.collect("polars")
    if not isinstance(native, nw.DataFrame):
        raise not_a_frame(frame)
    return native.to_polars().lazy()


def not_a_frame(value: object) -> PanelError:
    """Make the error that says `value` is no table."""
    return _refused(
        "not_a_frame",
        f"a {type(value).__module__}.{type(value).__name__} is not a table",
        "give a polars, pandas, Arrow or DuckDB frame, or read a file with read_sales",
    )


def stands_in_memory(frame: object) -> bool:
    """Whether a frame's rows are already in memory, so that what was read of them may be kept there too."""
    return not isinstance(frame, pl.LazyFrame)


def _texts_apart(frame: object) -> object:
    """Turn pandas columns that mix texts with numbers, and pandas periods, into what Arrow can hold."""
    if not type(frame).__module__.startswith("pandas"):
        return frame
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        return frame
    changed: dict[str, pd.Series] = {}
    for name, column in frame.items():
        if isinstance(column.dtype, pd.PeriodDtype):
            changed[str(name)] = column.dt.start_time
        elif column.dtype == object and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed"):
            changed[str(name)] = column.map(str, na_action="ignore")
    return frame.assign(**changed) if changed else frame


def read_sales(source: str | Path, query: str | None = None) -> pl.LazyFrame:
    """Read sales from a CSV or Parquet file (a folder or pattern of Parquet files too) or from a database.

    Types of a CSV are inferred from all its rows: a column with one text among its numbers is text, and the panel
    says which rows. Parquet stays on disk and is scanned when it is needed.

    Parameters
    ----------
    source : str or Path
        A path, or a SQLAlchemy URL such as ``sqlite:///sales.db`` or ``postgresql+psycopg://user@host/base``.
    query : str, optional
        The SELECT to run; needed for a database, refused for a file.

    Raises
    ------
    PanelError
        If the source is missing, of an unknown kind, or cannot be read; a password is never shown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sales.csv"
    ...     _ = path.write_text("item,price\\ntea,3.5\\n")
    ...     read_sales(path).collect().rows()
    [('tea', 3.5)]
    """
    text = str(source)
    if "://" in text:
        return _read_database(text, query)
    if query is not None:
        raise _refused("query_without_database", f"a query was given for the file {text!r}", "leave the query out")
    try:
        return _read_file(text)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _refused("unreadable_source", f"{text!r} cannot be read ({error})", "check the file") from error


def _read_file(text: str) -> pl.LazyFrame:
    """Read a CSV file, or Parquet files."""
    path = Path(text)
    if path.is_dir():
        names = sorted(path.glob("**/*.parquet"))
    else:
        names = [path] if path.is_file() else sorted(Path(name) for name in glob.glob(text, recursive=True))
    if not names:
        what = "no Parquet file in folder" if path.is_dir() else "no file"
        raise _refused("missing_source", f"there is {what} {text!r}", "check the path")
    kinds = {name.suffix.lower() for name in names}
    if kinds <= {".parquet", ".pq"}:
        frame = pl.scan_parquet(names)
        frame.collect_schema()
        return frame
    if kinds <= {".csv", ".tsv", ".txt", ".gz"} and len(names) == 1:
        separator = "\t" if ".tsv" in names[0].suffixes else ","
        if names[0].stat().st_size <= READ_AT_ONCE_BYTES:
            return pl.read_csv(names[0], separator=separator, infer_schema_length=None).lazy()
        return pl.scan_csv(names[0], separator=separator, infer_schema_length=None)
    raise _refused(
        "unknown_source",
        f"{text!r} is neither CSV nor Parquet",
        "give one .csv or .tsv file, .parquet files or a folder of them, or a database URL with a query",
    )


def _read_database(url: str, query: str | None) -> pl.LazyFrame:
    """Run a query through SQLAlchemy; errors name the database without its password."""
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        kind = url.split("://", 1)[0]
        raise _refused(
            "bad_url", f"a database URL beginning with {kind!r} cannot be read", "write it as kind://user@host/name"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    shown = parsed.render_as_string(hide_password=True)
    if not query:
        raise _refused("missing_query", f"no query was given for {shown}", "say which rows with --query 'SELECT ...'")
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).is_file():
        raise _refused("missing_source", f"there is no database file {parsed.database!r}", "check the path")
    try:
        engine = sa.create_engine(parsed, poolclass=sa.NullPool)
        with engine.connect() as connection:
            # the driver gets the query as it is written: no colon or percent sign in it stands for a parameter
            result = connection.execution_options(stream_results=True, no_parameters=True).exec_driver_sql(query)
            names = list(result.keys())
            parts = [_part(names, rows) for rows in result.partitions(_BATCH_ROWS)]
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error)
        if parsed.password:
            cause = cause.replace(str(parsed.password), "***")
        lacking = isinstance(error, ImportError)
        remedy = "install its driver (the extra 'postgres' has one)" if lacking else "check the database and the query"
        raise _refused("unreadable_source", f"{shown} cannot be read ({cause.strip()})", remedy) from None
    return _stacked(names, parts).lazy()


def _part(names: Sequence[str], rows: Sequence[Sequence[object]]) -> pl.DataFrame:
    """Make a frame of rows of one batch; a column that mixes texts with numbers becomes text."""
    return pl.DataFrame({name: _series([row[place] for row in rows]) for place, name in enumerate(names)})


def _series(values: list[object]) -> pl.Series:
    known = [value for value in values if value is not None]
    if any(isinstance(value, Decimal) for value in known):
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
    if any(isinstance(value, str) for value in known):
        return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
    if any(isinstance(value, float | Decimal) for value in known):
        return pl.Series(values, dtype=pl.Float64, strict=False)
    return pl.Series(values)


def _stacked(names: Sequence[str], parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Put batches together; a column that is text in one of them is text in all."""
    if not parts:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.Null))
    texts = {name for part in parts for name in names if part.schema[name] == pl.String}
    return pl.concat(
        [part.with_columns(pl.col(sorted(texts)).cast(pl.String)) for part in parts], how="vertical_relaxed"
    )


def _refused(code: str, message: str, remedy: str) -> PanelError:
    return PanelError(Problem(code=code, count=0, message=message, remedy=remedy))
