"""Orange juice priced as one category: `python -m simulations.studies.orange_juice_prices FILE FOLDER`.

Eleven brands of one chain, week by week, from the file of store weeks: prices by 64 ounces, cost from the gross margin,
deals and features as shares of the volume. The model's cross-price effects are learnt; profit is maximised on a ladder
of 5 cents with no price moving by more than 10 % and a floor under the expected shortfall; the report explains every
brand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bayes_pricing.cli.main import exit_code

OUNCES = 64.0
FIT = ("--item", "brand", "--period", "week", "--price", "price", "--quantity", "quantity", "--cost", "cost",
       "--shared-control", "deal", "--shared-control", "feature", "--cross-prices")  # fmt: skip
LIMITS = ("--objective", "profit", "--price-step", "0.05", "--max-change", "0.10", "--currency", "USD",
          "--horizon", "13")  # fmt: skip
SHORTFALL = "-8000"
"""Largest expected shortfall of the chain's profit, USD per week: below zero, so that even the mean of the worst 5 % of
draws has to gain 8,000."""


def chain_weeks(sales: pl.DataFrame, *, stores: Sequence[int] | None = None) -> pl.DataFrame:
    """Brand weeks of the whole chain (or some of its stores) from store weeks.

    Parameters
    ----------
    sales : DataFrame
        As published: ``store, brand, brand_name, week, logmove`` (log ounces), ``price1 ... price11`` (per ounce),
        ``deal, feat`` and ``profit`` (gross margin in per cent of the price).
    stores : sequence of int, optional

    Returns
    -------
    DataFrame
        ``brand, week, price`` (USD by 64 ounces, asked by the store in the middle), ``quantity, cost, deal, feature``.
    """
    own = pl.coalesce(pl.when(pl.col("brand") == brand).then(pl.col(f"price{brand}")) for brand in range(1, 12))
    units = pl.col("units")
    kept = sales if stores is None else sales.filter(pl.col("store").is_in(list(stores)))
    return (
        kept.with_columns(units=pl.col("logmove").exp() / OUNCES, price=(own * OUNCES).round(2))
        .group_by("brand_name", "week")
        .agg(
            price=pl.col("price").quantile(0.5, "nearest"),
            cost=pl.col("price").quantile(0.5, "nearest") * (1.0 - pl.col("profit").median() / 100.0),
            deal=(pl.col("deal") * units).sum() / units.sum(),
            feature=(pl.col("feat") * units).sum() / units.sum(),
            quantity=units.sum(),
        )
        .rename({"brand_name": "brand"})
        .sort("brand", "week")
    )


def run_study(file: Path, folder: Path, *, seed: int = 1) -> None:
    """Prepare the file, fit it, decide and write the report into a folder, by the shell's own commands."""
    folder.mkdir(parents=True, exist_ok=True)
    sales, model = folder / "juice.parquet", folder / "model"
    chain_weeks(pl.read_parquet(file)).write_parquet(sales)
    limits = (*LIMITS, "--max-shortfall", SHORTFALL, "--seed", str(seed))
    for words in (
        ("fit", "--sales", str(sales), *FIT, "--seed", str(seed), "--out", str(model)),
        ("recommend", "--model-dir", str(model), *limits, "--frontier"),
        ("report", "--model-dir", str(model), *limits, "--out", str(folder / "report.html")),
    ):
        code = exit_code(list(words))
        if code:
            raise SystemExit(code)


if __name__ == "__main__":
    run_study(Path(sys.argv[1]), Path(sys.argv[2]))
