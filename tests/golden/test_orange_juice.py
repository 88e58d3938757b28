"""Orange juice: own-price elasticities of two brands over 83 stores; the study of the same name has all eleven."""

from __future__ import annotations

import polars as pl
import pytest

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.demand.design import ModelRequest, build_design
from bayes_pricing.demand.spec import Correlated
from bayes_pricing.demand.tree_fit import fit_tree
from simulations.studies.orange_juice import LISTED, TOLERANCE, brand_panel
from tests.support import shared_data


@pytest.mark.slow
@pytest.mark.parametrize(("brand", "correlated", "pairs"), [(2, "price", 1), (9, "all", 91)])
def test_own_elasticity_of_a_brand(brand: int, correlated: Correlated, pairs: int) -> None:
    """bayesm's number within 0.10: its sd is about that, and a short run adds a Monte-Carlo error of 0.01."""
    request = ModelRequest(model="lognormal", noise_by="item", correlated=correlated)
    juice = pl.read_parquet(shared_data("oj_dominicks_store_brand_week.parquet"))
    design = build_design(brand_panel(juice, brand), request)
    assert len(design.spec.coefficients) == 14
    logs = design.frame.with_columns(log_price=pl.col("price").log(), log_units=pl.col("quantity").log())
    gram = gather_gram(logs, "item", "log_units", design.spec.columns[1:])
    posterior = fit_tree(gram, design.items, design.spec, draws=150, tune=150, chains=2, seed=11)
    draws = posterior.coefficients("population").sel(coefficient="log_price")
    assert float(draws.mean()) == pytest.approx(LISTED[brand - 1], abs=TOLERANCE)
    assert 0.04 < float(draws.std()) < 0.12
    assert posterior.hyper()["correlation_item"].sizes["pair"] == pairs
