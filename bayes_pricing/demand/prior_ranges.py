"""What any prior of a choice, share or purchase model must hold: demand falls with price, scales are scales."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MEAN = "elasticity_mean"


def require_prior_ranges(priors: DataclassInstance) -> None:
    """Refuse priors whose `elasticity_mean` is not negative, or with another field that is no positive finite scale.

    Raises
    ------
    SpecError
        Naming the field; NaN never passes.
    """
    kind = type(priors).__name__
    for field in fields(priors):
        value = getattr(priors, field.name)
        if field.name == MEAN and not -math.inf < value < 0:
            raise SpecError(f"{kind}.{MEAN} is {value}; demand falls with price.")
        if field.name != MEAN and not 0 < value < math.inf:
            raise SpecError(f"{kind}.{field.name} is {value}; a scale is positive and finite.")
