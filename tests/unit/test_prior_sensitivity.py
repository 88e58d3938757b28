"""What priors and sales decide, where it is known: no data, agreeing data, data far from the prior."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.prior_sensitivity import ParameterSensitivity, check_priors, prior_findings
from bayes_pricing.demand.spec import DemandSpec

Floats = NDArray[np.float64]
SD, PRIOR_MEAN, PRIOR_SD = 0.5, -2.62, np.hypot(1.0, 0.7)
"""Without levels the population takes over the spread between groups."""
OF_SCALE = 0.09
"""Distance per doubling between normals of one mean whose sd falls by sqrt(2) per doubling: all weight on one side."""


def posterior(elasticity: Floats) -> DrawsPosterior:
    """One item, its elasticity the population's; levels and spread known."""
    chains, length = elasticity.shape
    level = np.stack([np.zeros_like(elasticity), elasticity], axis=-1).astype(np.float32)
    return DrawsPosterior(
        id="test",
        spec=DemandSpec(levels=()),
        items=pl.DataFrame({"item": ["a"], "reference_log_price": [0.0]}),
        units={},
        item_draws=level[:, :, None, :],
        upper_draws={"population": level},
        between_sd={"item": np.ones((chains, length, 2))},
        correlation={"item": np.zeros((chains, length, 1))},
        shared_draws=np.zeros((chains, length, 0)),
        dispersion=None,
        weight=np.ones(1),
        smearing=np.full((chains, length, 1), 0.5 * SD**2, dtype=np.float32),
    )


def looked_at(truth: float, rows: int, move: float = 0.2) -> tuple[ParameterSensitivity, ...]:
    """The conjugate posterior of an elasticity, sales on the line of `truth`."""
    rng = np.random.default_rng(5)
    log_price = np.tile([-move, move], rows // 2)
    log_units = truth * log_price
    precision = PRIOR_SD**-2.0 + (log_price @ log_price) / SD**2
    mean = (PRIOR_MEAN * PRIOR_SD**-2.0 + (log_price @ log_units) / SD**2) / precision
    frame = pl.LazyFrame({"item": ["a"] * rows, "price": np.exp(log_price), "quantity": np.exp(log_units)})
    return check_priors(posterior(rng.normal(mean, precision**-0.5, (4, 1000))), frame)


def test_without_evidence_the_prior_decides_all() -> None:
    found = looked_at(PRIOR_MEAN, 2, move=0.001)[0]
    assert found.diagnosis == "prior matters"
    assert found.prior == pytest.approx(OF_SCALE, abs=0.02)
    assert found.likelihood is not None
    assert found.likelihood < 0.005


def test_much_evidence_leaves_nothing_to_the_prior() -> None:
    found = looked_at(-2.0, 1000)
    assert [one.diagnosis for one in found] == ["fine"]
    assert found[0].prior < 0.01
    assert found[0].likelihood == pytest.approx(OF_SCALE, abs=0.02)
    assert prior_findings(found) == ()


def test_sales_far_from_the_prior_conflict_with_it() -> None:
    found = looked_at(4.0, 40)
    assert found[0].diagnosis == "conflict"
    (finding,) = prior_findings(found)
    assert finding.code == "prior_data_conflict"
    assert "population" in finding.message
