"""A made-up shop to rehearse with: many items, published and live, and a key; for load tests and first steps."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from sqlalchemy.engine import Engine

from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.gate import Evidence
from server.settings import Settings
from server.store.aliases import promote
from server.store.database import open_database
from server.store.keys import SCOPES, create_key
from server.store.models import record_model
from server.store.publishing import publish_posterior

DRAWS = 1000
CATEGORIES = 12


def made_up_posterior(items: int, *, seed: int) -> DrawsPosterior:
    """Joint draws of items whose elasticities lie around -2.2 in a dozen categories; no sale ever happened.

    Parameters
    ----------
    items : int
    seed : int

    Returns
    -------
    DrawsPosterior
        1,000 draws in two chains, counts with Poisson noise.

    Examples
    --------
    >>> made_up_posterior(3, seed=1).items["item"].to_list()
    ['item-00000', 'item-00001', 'item-00002']
    """
    rng = np.random.default_rng(seed)
    shape = (2, DRAWS // 2)
    category = np.arange(items) % CATEGORIES
    names = tuple(f"category-{unit:02d}" for unit in range(min(CATEGORIES, items)))
    population = rng.normal(-2.2, 0.1, (*shape, 1))
    groups = population + rng.normal(0.0, 0.3, len(names)) + rng.normal(0.0, 0.05, (*shape, len(names)))
    elasticity = groups[:, :, category] + rng.normal(0.0, 0.3, items) + rng.normal(0.0, 0.25, (*shape, items))
    level = rng.normal(3.0, 0.5, items) + rng.normal(0.0, 0.1, (*shape, items))
    price = rng.uniform(5.0, 15.0, items)
    table = pl.DataFrame(
        {
            "item": [f"item-{place:05d}" for place in range(items)],
            "category": [names[unit] for unit in category],
            "current_price": price,
            "reference_log_price": np.log(price),
            "lowest_price": 0.75 * price,
            "highest_price": 1.3 * price,
            "distinct_prices": np.full(items, 7),
            "rows": np.full(items, 52),
            "units_per_period": np.exp(level).mean(axis=(0, 1)),
            "cost": 0.5 * price,
            "exposure": np.ones(items),
            "first_period": np.full(items, 1),
            "last_period": np.full(items, 52),
            "within_sd_log_price": np.full(items, 0.14),
        }
    )

    def pair(first: object, second: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.stack([np.asarray(first), np.asarray(second)], axis=-1).astype(np.float32)

    return DrawsPosterior(
        id="0" * 64,
        spec=DemandSpec(likelihood="poisson", levels=("category",)),
        items=table,
        units={"category": names},
        item_draws=pair(level, elasticity),
        upper_draws={
            "category": pair(np.full_like(groups, 3.0), groups),
            "population": pair(np.full(shape, 3.0), population[:, :, 0]),
        },
        between_sd={name: np.full((*shape, 2), 0.3) for name in ("item", "category")},
        correlation={},
        shared_draws=np.zeros((*shape, 0)),
        dispersion=None,
        weight=np.full(items, 0.5),
    )


def open_rehearsal(folder: Path, items: int, *, seed: int, models: int = 1) -> dict[str, str]:
    """Publish made-up posteriors in a folder, promote the first past the gate and make a key for everything.

    Parameters
    ----------
    folder : Path
    items : int
    seed : int
    models : int
        How many to publish, each of its own draws.

    Returns
    -------
    dict of str to str
        ``model`` (the live one), ``token``, and ``models``: all of them, with commas between.
    """
    settings = Settings(data_dir=folder)
    folder.mkdir(parents=True, exist_ok=True)
    engine = open_database(settings.database_url)
    published = [_publish(settings, engine, items, seed=seed + place) for place in range(models)]
    model = published[0]
    promote(engine, "champion", model, expected_version=0, by="rehearsal", reason="made up to rehearse", override=True)
    token = create_key(engine, name="rehearsal", scopes=SCOPES, rate_per_second=1e6, by="rehearsal").token
    engine.dispose()
    return {"model": model, "token": token, "models": ",".join(published)}


def _publish(settings: Settings, engine: Engine, items: int, *, seed: int) -> str:
    posterior = made_up_posterior(items, seed=seed)
    model = publish_posterior(posterior, settings.published_dir, seed=seed)
    none = Evidence(diagnostics=None, calibration=None, backtest=None)
    record_model(engine, model, fit_id=posterior.id, by="rehearsal", evidence=none, about={})
    return model


if __name__ == "__main__":
    how_many = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    made = open_rehearsal(Path(sys.argv[1]), int(sys.argv[2]), seed=1, models=how_many)
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")
