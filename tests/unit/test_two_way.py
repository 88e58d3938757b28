from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import Refusal
from bayes_pricing.experiments.two_way import exposure_of, two_way_contrasts


def test_two_periods_are_the_difference_of_mean_changes() -> None:
    rng = np.random.default_rng(1)
    before, after, treated = rng.normal(size=12), rng.normal(size=12), np.arange(12) < 5
    unit, period = np.tile(np.arange(12), 2), np.repeat([0, 1], 12)
    exposure = (np.tile(treated, 2) & (period == 1)).astype(float)[:, None]
    contrast = two_way_contrasts(np.concatenate([before, after]), exposure, unit, period, unit)[0]
    change = after - before
    assert contrast.mean == pytest.approx(change[treated].mean() - change[~treated].mean(), abs=1e-10)


def test_a_ragged_panel_agrees_with_dummies() -> None:
    rng = np.random.default_rng(2)
    unit, period = np.repeat(np.arange(9), 7), np.tile(np.arange(7), 9)
    kept = rng.random(63) < 0.8
    unit, period = unit[kept], period[kept]
    arm = np.where(period >= 3, unit % 3, 0)
    response = rng.normal(size=unit.size) + 0.7 * (arm == 1)
    contrasts = two_way_contrasts(response, exposure_of(arm, 3), unit, period, unit)
    dummies = [np.eye(9)[unit], np.eye(7)[period][:, 1:]]
    design = np.hstack([exposure_of(arm, 3), *dummies])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ response
    scores = design * (response - design @ beta)[:, None]
    meat = sum(np.outer(scores[unit == u].sum(axis=0), scores[unit == u].sum(axis=0)) for u in range(9))
    rows = unit.size
    variance = np.diag(9 / 8 * (rows - 1) / (rows - 2 - 7) * bread @ meat @ bread)[:2]
    assert [c.mean for c in contrasts] == pytest.approx(beta[:2].tolist(), abs=1e-8)
    assert [c.standard_error for c in contrasts] == pytest.approx(np.sqrt(variance).tolist(), rel=1e-7)


def test_what_the_effects_explain_is_refused() -> None:
    unit, period = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    everybody = (period == 2).astype(float)[:, None]
    with pytest.raises(Refusal, match="explain the whole"):
        two_way_contrasts(np.arange(12.0), everybody, unit, period, unit)
    with pytest.raises(Refusal, match="one cluster"):
        two_way_contrasts(np.arange(12.0), everybody, unit, period, np.zeros(12, dtype=np.int64))
