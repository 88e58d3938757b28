"""`fit --compare-models`: the families side by side, none hidden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tests.shell.running import run


def test_every_family_that_could_hold_is_scored_and_named(tmp_path: Path) -> None:
    """Counts with zeros, which logs cannot hold: the rules choose, LOO judges, both families of counts are listed."""
    rng = np.random.default_rng(4)
    price = rng.choice([2.0, 2.5, 3.0], (4, 26))
    units = rng.poisson(3.0 * (price / 2.5) ** -2.0)
    path = tmp_path / "sales.csv"
    pl.DataFrame(
        {
            "item": np.repeat(["a", "b", "c", "d"], 26),
            "period": list(range(26)) * 4,
            "price": price.ravel(),
            "quantity": units.ravel(),
        }
    ).write_csv(path)
    ran = run("fit", "--sales", path, "--compare-models", "--draws", 400, "--seed", 1, "--json")
    assert ran.code == 0, ran.err + ran.out
    choice = ran.json["choice"]
    scores = {score["model"]: score for score in choice["scores"]}
    assert set(scores) == {"poisson", "negative-binomial"}
    judged = [score for score in choice["scores"] if not score["refused"]]
    assert len(judged) == 2
    assert judged[0]["difference"] == 0.0
    assert all(score["elpd"] <= judged[0]["elpd"] for score in judged)
    taken = next(name for name in scores if name not in choice["alternatives"])
    assert taken.replace("-", "_") == ran.json["likelihood"] == choice["likelihood"]
    # sales were drawn as Poisson counts: no family may be clearly better than it
    assert scores["poisson"]["difference"] > -max(4.0, 2.0 * scores["poisson"]["standard_error"])
