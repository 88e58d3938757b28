"""One range check for the priors of choices, shares and purchases."""

from __future__ import annotations

import math

import pytest

from bayes_pricing.demand.choice import ChoicePriors
from bayes_pricing.demand.purchase import PurchasePriors
from bayes_pricing.demand.shares import SharePriors
from bayes_pricing.errors import SpecError

KINDS = (ChoicePriors, PurchasePriors, SharePriors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mean", [0.0, 1.5, math.nan, -math.inf])
def test_demand_falls_with_price(kind: type[ChoicePriors | PurchasePriors | SharePriors], mean: float) -> None:
    with pytest.raises(SpecError, match=f"{kind.__name__}.elasticity_mean is {mean}"):
        kind(elasticity_mean=mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_is_positive_and_finite(kind: type[ChoicePriors | PurchasePriors | SharePriors], scale: float) -> None:
    with pytest.raises(SpecError, match=f"{kind.__name__}.elasticity_sd is {scale}"):
        kind(elasticity_sd=scale)
