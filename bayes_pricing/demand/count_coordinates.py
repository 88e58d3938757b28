"""The arrays the compiled density of counts reads: coordinates from a rough fit, cells laid out for vector loops."""

from __future__ import annotations

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import CountData
from bayes_pricing.demand.count_density import Counts, hyper_size
from bayes_pricing.demand.count_likelihood import Cells
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE, CountLaw, nested_counts
from bayes_pricing.demand.nest_coordinates import build_nest, build_scales, slot_order, start_nest
from bayes_pricing.demand.nest_density import nest_size, shared_place
from bayes_pricing.demand.nest_start import RoughFit, fit_roughly


def build_counts(data: CountData) -> tuple[Counts, RoughFit[CountLaw]]:
    """What the compiled density reads, with coordinates from a rough fit.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.demand.count_data import build_count_data
    >>> from bayes_pricing.demand.spec import DemandSpec
    >>> frame = pl.DataFrame({"item": ["a", "b", "b"], "price": [1.0, 2.0, 3.0], "quantity": [7, 5, 4]})
    >>> counts, _ = build_counts(build_count_data(frame, DemandSpec(likelihood="poisson", levels=())))
    >>> counts.nest.order.tolist(), counts.cells.slot_start.tolist(), counts.cells.total.tolist()
    ([1, 0], [0, 2, 3], [5.0, 7.0, 4.0])
    """
    rows = nested_counts(data)
    k = rows.own
    rough = fit_roughly(rows, CountLaw(data=data))
    order, place, slot_start = slot_order(data.item, len(data.items))
    cells = Cells(
        slot_start=slot_start,
        predictors=np.ascontiguousarray(rows.predictors[place, :k].T),
        shared=np.ascontiguousarray(rows.predictors[place, k:].T),
        total=data.total[place],
        rows=data.rows[place],
        exposure=data.exposure[place],
        counts=data.counts,
        count_rows=data.count_rows,
    )
    scales = build_scales(rows, OVERDISPERSION_SCALE if data.spec.likelihood == "negative_binomial" else 0.0)
    return Counts(nest=build_nest(rough, order), cells=cells, scales=scales), rough


def start_point(counts: Counts, rough: RoughFit[CountLaw], rng: np.random.Generator) -> Floats:
    """A starting point near the rough fit, dispersed so that chains start apart."""
    scales = counts.scales
    x = start_nest(rough, scales, hyper_size(counts) + nest_size(counts.nest, scales), rng)
    if scales.overdispersion > 0:
        at = shared_place(scales) + len(scales.shared_sd)
        x[at] = np.exp(0.1 * x[at]) * rough.law.dispersion**-0.5 / scales.overdispersion
    return x
