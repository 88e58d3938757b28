"""Items that a joint optimum has earn less for themselves, so that the others of their category earn more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding
from bayes_pricing.pricing.problem import Problem

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SACRIFICE = 0.1
"""Share of an item's own money today from which on it is worth saying that it is given up for its category."""


def sacrifices(
    problem: Problem, categories: Sequence[Places], today: Floats, change: Floats
) -> dict[str, tuple[Finding, ...]]:
    """A finding about every item that gives up much of its own money while its category gains.

    Under constant cross-price elasticities this is no mistake of the search: an item priced out of the market sends
    its buyers to the others at a rate that data near today's prices cannot confirm.

    Parameters
    ----------
    problem : Problem
    categories : sequence of array of int
        Places of the items that are priced together.
    today, change : array (J,)
        Expected money of every item per period at today's prices, and how it changes with all prices at once.

    Returns
    -------
    dict of str to tuple of Finding
        By item; items without a finding are left out.
    """
    found: dict[str, tuple[Finding, ...]] = {}
    for places in categories:
        together = float(change[places].sum())
        if not together > 0:
            continue
        for place in places[change[places] < -SACRIFICE * np.abs(today[places])].tolist():
            item = problem.items[place]
            found[item] = (_finding(item, problem.objective, -float(change[place]), float(today[place]), together),)
    return found


def _finding(item: str, objective: str, lost: float, today: float, together: float) -> Finding:
    return Finding(
        code="given_up_for_category", severity="warning", item=item,
        message=f"{item!r} gives up {lost:.4g} of its own {today:.4g} of {objective} per period so that its category "
        f"gains {together:.4g} in all",
        remedy="limit how far its price may move where it has to earn on its own, or test several prices of the "
        "category at once: the gain rests on its cross-price effects",
    )  # fmt: skip
