"""Gradient-boosted trees whose predicted units never rise with price."""

from __future__ import annotations

from dataclasses import dataclass

from bayes_pricing.baselines.learned import FittedLearnedDemand, LearnedDemand
from bayes_pricing.baselines.protocol import SalesRows, UnitModel


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostedTrees:
    r"""Boosted trees for units relative to the item's usual units, monotone in price.

    .. math:: E[q_{it}] = s_{it} \, \bar q_i \, f\bigl(\log p_{it} - \overline{\log p}_i,\ \text{category}_i,\
              \text{week of the year}_t,\ c_{it}\bigr), \quad f \text{ falling in its first argument}

    Means are over training rows. The item's usual units :math:`\bar q_i` enter as an offset and not as one more
    feature to learn: for the Poisson loss, fitting :math:`q / \bar q` with weights :math:`\bar q` is that offset
    exactly; log units are fitted by squares of their deviation from the item's mean. Every feature is known on the
    day of the decision; the week is used where training spans a year.

    The elasticity is the slope of log predictions over prices from 10 % below to 10 % above the price asked about
    (five points), at the item's mean controls and the last training week. Its interval is a bootstrap over items:
    `refits` fits to items drawn with replacement, and the Student-t interval with their standard deviation. It tells
    how far the trees depend on which items were seen, not how far a single item strays from what they predict of it,
    nor the bias of trees towards flat answers. No upper end is above 0, as the trees cannot rise with price.

    Attributes
    ----------
    seed : int
        Of the bootstrap.
    unit_model : str
        ``log``, ``counts``, or ``auto``: counts where some training row sold nothing.
    probability : float in (0, 1)
        Nominal coverage of the elasticity intervals.
    refits : int
        Bootstrap fits, at least 2.

    References
    ----------
    Friedman (2001), "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29(5).

    Examples
    --------
    >>> import numpy as np
    >>> import polars as pl
    >>> price = np.tile(np.linspace(4.0, 6.0, 21), 10)
    >>> frame = pl.DataFrame({"item": np.repeat(list("abcdefghij"), 21), "price": price, "quantity": 100 * price**-2})
    >>> fitted = BoostedTrees(seed=1, refits=2).fit(SalesRows(frame=frame))
    >>> elasticity = fitted.own_price_elasticity(["a"], [5.0])
    >>> fitted.name, bool(-2.3 < elasticity.mean[0] < -1.7)
    ('boosted trees (log units)', True)
    """

    seed: int
    unit_model: UnitModel = "auto"
    probability: float = 0.9
    refits: int = 10

    def __post_init__(self) -> None:
        self._options()

    def _options(self) -> LearnedDemand:
        return LearnedDemand(
            learner="boosted_trees",
            seed=self.seed,
            unit_model=self.unit_model,
            probability=self.probability,
            refits=self.refits,
        )

    def fit(self, train: SalesRows) -> FittedLearnedDemand:
        """Fit on training rows: the trees, their bootstrap, and the noise of rows they were not fitted to.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing.
        """
        return self._options().fit(train)
