"""Simulated choices with known tastes."""

from __future__ import annotations

import numpy as np
import polars as pl

from bayes_pricing.demand.choice_data import ChoiceData, build_choices

BRANDS = ("a", "b", "c")
MEAN = np.array([0.8, -0.4, -1.5, 0.6])
SPREAD = np.array([0.6, 0.4, 0.5, 0.3])


def simulate_choices(*, people: int, occasions: int, seed: int) -> ChoiceData:
    """Three brands and one attribute, with tastes `MEAN` (a, b, price, attribute) and sds `SPREAD` between people."""
    rng = np.random.default_rng(seed)
    tastes = MEAN + SPREAD * rng.standard_normal((people, 4))
    price = rng.choice([1.0, 1.4, 1.8, 2.2], size=(people, occasions, 3))
    shown = rng.integers(0, 2, size=price.shape).astype(float)
    constant = np.stack([tastes[:, 0], tastes[:, 1], np.zeros(people)], axis=1)[:, None, :]
    utility = constant + tastes[:, 2, None, None] * price + tastes[:, 3, None, None] * shown
    chosen = (utility + rng.gumbel(size=price.shape)).argmax(axis=2)
    who, trip, brand = (index.ravel() for index in np.indices(price.shape))
    rows = pl.DataFrame(
        {
            "who": [f"p{at:03d}" for at in who],
            "trip": trip,
            "brand": [BRANDS[at] for at in brand],
            "chosen": (chosen[:, :, None] == np.arange(3)).ravel().astype(int),
            "price": price.ravel(),
            "shown": shown.ravel(),
        }
    )
    return build_choices(
        rows,
        occasion="trip",
        alternative="brand",
        chosen="chosen",
        price="price",
        attributes=("shown",),
        chooser="who",
    )


def choice_rows(data: ChoiceData) -> pl.DataFrame:
    """The table a `ChoiceData` was made of, but for the attribute."""
    t, j = np.indices(data.available.shape)
    return pl.DataFrame(
        {
            "who": [data.choosers[at] for at in data.chooser[t.ravel()]],
            "trip": t.ravel(),
            "brand": [data.alternatives[at] for at in j.ravel()],
            "chosen": (data.chosen[t] == j).ravel().astype(int),
            "price": data.prices.ravel(),
        }
    )
