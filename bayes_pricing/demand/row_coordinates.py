"""The arrays the compiled row density reads: coordinates from a rough fit, rows laid out for vector loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import RowData
from bayes_pricing.demand.count_data import Integers
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE
from bayes_pricing.demand.nest_coordinates import build_nest, build_scales, slot_order, start_nest
from bayes_pricing.demand.nest_start import NestedRows, RoughFit, fit_roughly, item_information, nest_rows
from bayes_pricing.demand.row_density import Noise, RowProblem, law_places, row_size
from bayes_pricing.demand.row_likelihood import GAUSSIAN, NEGATIVE_BINOMIAL, POISSON, STUDENT_T, Rows
from bayes_pricing.demand.row_start import TYPICAL_DEGREES, RowLaw
from bayes_pricing.demand.tree_prior import TreePrior

START_DEGREES = 8.0
FEWEST_ROWS = 0.5
"""As which an item counts for its residual sd, however few it has."""


def build_row_problem(data: RowData, prior: TreePrior) -> tuple[RowProblem, RoughFit[RowLaw]]:
    """What the compiled density reads, with coordinates from a rough fit."""
    rows = nest_rows(data.tree, prior, data.item, data.predictors)
    items, k = rows.items, rows.own
    rough = fit_roughly(rows, RowLaw(data=data, log_sd=np.full(items, np.log(0.5))))
    order, place, slot_start = slot_order(data.item, items)
    rank = np.empty(items, dtype=np.int64)
    rank[order] = np.arange(items)
    logs = data.spec.likelihood == "lognormal"
    kinds, kind = (
        (np.zeros(0), np.zeros(len(place), np.int64)) if logs else np.unique(data.quantity, return_inverse=True)
    )
    laid_out = Rows(
        law=_law(data),
        slot_start=slot_start,
        predictors=np.ascontiguousarray(rows.predictors[place, :k].T),
        shared=np.ascontiguousarray(rows.predictors[place, k:].T),
        response=(data.log_units if logs else data.quantity)[place],
        offset=np.zeros(len(place)) if logs else data.log_exposure[place],
        gone=data.sold_out[place],
        item=rank[data.item[place]],
        kinds=kinds,
        kind=kind[place],
    )
    scales = build_scales(rows, OVERDISPERSION_SCALE if data.spec.likelihood == "negative_binomial" else 0.0)
    known = _from_what_was_seen(rough, rows, data) if logs else rough
    nest, noise = build_nest(known, order), _noise(data, prior, known, order)
    return RowProblem(nest=nest, rows=laid_out, scales=scales, noise=noise), rough


def _from_what_was_seen(rough: RoughFit[RowLaw], rows: NestedRows, data: RowData) -> RoughFit[RowLaw]:
    """The rough fit with items' information of the rows that did not run out.

    It grows as the item's residual variance falls, which is how the coordinates weigh it; what a row that ran out says
    does not, and would put their centre beside the few rows that a small variance fits almost exactly.
    """
    seen = (~data.sold_out).astype(np.float64)
    curvature, score = rough.curvature.copy(), rough.score.copy()
    curvature[: rows.items], score[: rows.items] = item_information(
        rows, rough.law, rough.coefficients, rough.shared, seen
    )
    return replace(rough, curvature=curvature, score=score)


def _law(data: RowData) -> int:
    if data.spec.likelihood == "lognormal":
        return STUDENT_T if data.spec.errors == "student_t" else GAUSSIAN
    return POISSON if data.spec.likelihood == "poisson" else NEGATIVE_BINOMIAL


def _noise(data: RowData, prior: TreePrior, rough: RoughFit[RowLaw], order: Integers) -> Noise:
    """Noise groups, and what an item's rows say of the log of its sd.

    That is twice their number, less what its coefficients take of them, and less under heavy tails.
    """
    logs, log_sd = data.spec.likelihood == "lognormal", rough.law.log_sd
    curvature = rough.curvature[: len(order)]
    taken = np.trace(curvature @ np.linalg.inv(curvature + np.linalg.inv(rough.covariance[0])), axis1=1, axis2=2)
    rows = np.maximum(np.bincount(data.item[~data.sold_out], minlength=len(order)) - taken, FEWEST_ROWS)
    heavy = TYPICAL_DEGREES / (TYPICAL_DEGREES + 3.0) if data.spec.errors == "student_t" else 1.0
    information: Floats = 2.0 * heavy * rows[order]
    return Noise(
        group=data.tree.noise_group[order],
        groups=len(data.tree.noise_groups) if logs else 0,
        scale=float(prior.noise_scale),
        spread=float(prior.noise_spread_scale) if logs and data.spec.noise_by == "item" else 0.0,
        information=information,
        pull=information * log_sd[order],
        reference=log_sd[order],
    )


def start_rows(problem: RowProblem, rough: RoughFit[RowLaw], rng: np.random.Generator) -> Floats:
    """A starting point near the rough fit, dispersed so that chains start apart."""
    x = start_nest(rough, problem.scales, row_size(problem), rng)
    places, noise = law_places(problem), problem.noise
    if noise.groups:
        typical = np.bincount(noise.group, rough.law.log_sd[problem.nest.order], noise.groups)
        typical /= np.bincount(noise.group, minlength=noise.groups)
        own = slice(places.noise, places.noise + noise.groups)
        x[own] = typical + 0.1 * x[own]
    if noise.spread > 0:
        x[places.spread] = 0.5 * np.exp(0.2 * x[places.spread])
    if problem.rows.law == STUDENT_T:
        x[places.degrees] = np.log(START_DEGREES) + 0.3 * x[places.degrees]
    if problem.rows.law == NEGATIVE_BINOMIAL:
        x[places.scalar] = np.exp(0.1 * x[places.scalar]) * rough.law.dispersion**-0.5 / problem.scales.overdispersion
    return x
