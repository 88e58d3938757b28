from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.data.sources import read_sales
from bayes_pricing.errors import PanelError

SALES = pl.DataFrame(
    {
        "item": ["tea", "tea", "jam", "jam"],
        "period": ["2026-01-05", "2026-01-12"] * 2,
        "price": [3.0, 2.5, 4.0, 4.25],
        "quantity": [10, 14, 5, 6],
    }
)
QUERY = "SELECT item, period, price, quantity FROM sales"


def panel_hash(frame: pl.LazyFrame) -> str:
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.collect_schema().names())).summary.data_hash


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    path = tmp_path / "sales.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sales (item TEXT, period TEXT, price REAL, quantity INTEGER)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", SALES.rows())
        connection.commit()
    return f"sqlite:///{path}"


def test_the_same_rows_hash_alike_from_every_source(tmp_path: Path, sqlite_url: str) -> None:
    SALES.write_csv(tmp_path / "sales.csv")
    SALES.write_csv(tmp_path / "sales.tsv", separator="\t")
    SALES.write_parquet(tmp_path / "sales.parquet")
    (tmp_path / "folder").mkdir()
    for part, name in enumerate(("tea", "jam")):
        SALES.filter(item=name).write_parquet(tmp_path / "folder" / f"part{part}.parquet")
    frames = [
        read_sales(tmp_path / "sales.csv"),
        read_sales(tmp_path / "sales.tsv"),
        read_sales(tmp_path / "sales.parquet"),
        read_sales(tmp_path / "folder"),
        read_sales(str(tmp_path / "folder" / "*.parquet")),
        read_sales(sqlite_url, QUERY),
        SALES.lazy(),
    ]
    assert len({panel_hash(frame) for frame in frames}) == 1


def test_a_late_text_in_a_csv_is_reported_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    lines = ["item,price,quantity", *(f"tea,{1 + place % 3}.5,2" for place in range(20_000)), "tea,free,2"]
    path.write_text("\n".join(lines))
    with pytest.raises(PanelError) as error:
        panel_hash(read_sales(path))
    (problem,) = error.value.problems
    assert (problem.code, problem.count) == ("non_numeric_text", 1)
    assert problem.examples == ({"item": "tea", "price": "free"},)


def test_a_text_among_numbers_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "sales.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sales (item, price, quantity)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", [("tea", 1.5, 2), ("tea", "free", 2)])
        connection.commit()
    with pytest.raises(PanelError, match="non-numeric text"):
        panel_hash(read_sales(f"sqlite:///{path}", "SELECT * FROM sales"))


def test_colons_and_percent_signs_are_the_query_s_own(sqlite_url: str) -> None:
    frame = read_sales(sqlite_url, f"{QUERY} WHERE item LIKE '%ea' AND item <> ' :x'")
    assert frame.select("price").collect()["price"].to_list() == [3.0, 2.5]


def test_a_statement_that_returns_no_rows_changes_nothing(sqlite_url: str) -> None:
    with pytest.raises(PanelError, match="cannot be read"):
        read_sales(sqlite_url, "DELETE FROM sales")
    assert read_sales(sqlite_url, QUERY).collect().height == 4


def test_an_empty_answer_has_its_columns(sqlite_url: str) -> None:
    frame = read_sales(sqlite_url, f"{QUERY} WHERE price > 100")
    with pytest.raises(PanelError, match="no sales rows"):
        panel_hash(frame)


@pytest.mark.parametrize(
    ("source", "query", "code"),
    [
        ("nowhere.csv", None, "missing_source"),
        ("nowhere/*.parquet", None, "missing_source"),
        ("sqlite:///nowhere.db", QUERY, "missing_source"),
        ("postgresql+psycopg://me:hunter2@localhost/sales", None, "missing_query"),
        ("postgresql+psycopg://me:hunter2@127.0.0.1:1/sales", QUERY, "unreadable_source"),
        ("oddity://me:hunter2@localhost/sales", QUERY, "unreadable_source"),
        ("mysql+pymysql://me:hunter2@localhost/sales", QUERY, "unreadable_source"),
        ("post gres://me:hunter2@localhost", QUERY, "bad_url"),
        ("postgresql://me:hunter2@localhost:port/sales", QUERY, "bad_url"),
    ],
)
def test_bad_sources_say_what_is_wrong_without_the_password(source: str, query: str | None, code: str) -> None:
    with pytest.raises(PanelError) as error:
        read_sales(source, query)
    assert [problem.code for problem in error.value.problems] == [code]
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None or "hunter2" not in str(error.value.__cause__)


def test_unknown_kinds_and_stray_queries(tmp_path: Path) -> None:
    path = tmp_path / "sales.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(PanelError, match="neither CSV nor Parquet"):
        read_sales(path)
    with pytest.raises(PanelError, match="a query was given for the file"):
        read_sales(tmp_path / "sales.csv", QUERY)
    (tmp_path / "broken.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(PanelError, match="cannot be read"):
        read_sales(tmp_path / "broken.parquet")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(PanelError, match="cannot be read"):
        read_sales(tmp_path / "empty.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PanelError, match="no Parquet file in folder"):
        read_sales(tmp_path / "empty")


def test_a_query_that_fails(sqlite_url: str) -> None:
    with pytest.raises(PanelError, match=r"sales\.db.*cannot be read.*no such table"):
        read_sales(sqlite_url, "SELECT * FROM elsewhere")


@pytest.mark.postgres
def test_postgres(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE sales (item text, period date, price numeric(10, 2), quantity integer)")
        )
        connection.execute(
            sa.text("INSERT INTO sales VALUES (:item, CAST(:period AS date), :price, :quantity)"), SALES.to_dicts()
        )
    assert panel_hash(read_sales(postgres_url, QUERY)) == panel_hash(SALES.lazy())
    plain = postgres_url.replace("+psycopg", "")
    some = read_sales(plain, f"{QUERY} WHERE item LIKE '%ea' AND period >= '2026-01-12'::date AND item <> ' :x'")
    assert some.select("price").collect()["price"].to_list() == [2.5]


@pytest.mark.postgres
def test_postgres_never_shows_its_password(postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    wrong = url.set(password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(PanelError, match="cannot be read") as error:
        read_sales(wrong, QUERY)
    assert "hunter2" not in str(error.value)
    with pytest.raises(PanelError, match=r"tester:\*\*\*@.*does not exist") as error:
        read_sales(postgres_url, "SELECT * FROM elsewhere")
    assert str(url.password) not in str(error.value)
