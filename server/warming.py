"""A fit that nobody asked for, by which a worker with nothing to do compiles what the first fit would wait for."""

from __future__ import annotations

from collections.abc import Callable

ITEMS = 6
PERIODS = 26
ROUGH_DRAWS = 100


def rehearse_fit(progress: Callable[[float, str], None]) -> None:
    """Fit made-up sales of a few items under the model that most sales get, and forget the answer.

    Compiled kernels are kept on disk by numba: it takes a minute or two once per installation, and seconds later.

    Parameters
    ----------
    progress : callable
        Called with (fraction done, what is being done); what it raises ends the rehearsal.

    Raises
    ------
    Refusal
        If the made-up sales could not be fitted.
    """
    import numpy as np
    import polars as pl

    from bayes_pricing.data.panel import SalesPanel
    from bayes_pricing.data.roles import ColumnRoles
    from bayes_pricing.demand.design import ModelRequest
    from bayes_pricing.demand.fit import SamplerSettings, fit_demand

    rng = np.random.default_rng(1)
    shape = (ITEMS, PERIODS)
    price = rng.choice([4.0, 4.5, 5.0, 5.5], shape)
    sales = pl.DataFrame(
        {
            "item": np.repeat([f"item {place}" for place in range(ITEMS)], PERIODS),
            "category": np.repeat([f"category {place % 2}" for place in range(ITEMS)], PERIODS),
            "period": np.tile(np.arange(PERIODS), ITEMS),
            "price": price.ravel(),
            "quantity": np.exp(6.0 - 2.0 * np.log(price) + rng.normal(0.0, 0.3, shape)).ravel(),
        }
    )
    panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    fit_demand(panel, ModelRequest(), SamplerSettings(draws=ROUGH_DRAWS, chains=2), seed=1, progress=progress)
