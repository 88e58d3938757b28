"""Random-coefficients logit on shares: data and prior side by side, and where the stepped coordinates are likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.shares import SharePriors
from bayes_pricing.demand.shares_data import ShareData, residual_of, within_products
from bayes_pricing.demand.shares_inversion import Markets, people_nodes
from bayes_pricing.demand.shares_people_density import PeopleRows, log_target
from bayes_pricing.errors import Finding, Refusal, SpecError

PRICE, LEVEL = "price", "constant"
LARGEST = 6.0
"""Where the search for the mode ends, in prior scales."""


def pose_people(
    data: ShareData, tastes: Sequence[str], priors: SharePriors, *, instrumented: bool, people: int, seed: int
) -> PeopleRows:
    """Data and prior as the chains read them.

    Raises
    ------
    SpecError
        If a taste is unknown or named twice, or instruments are to be used and there are none.
    """
    known = (PRICE, LEVEL, *data.attribute_names, *data.control_names)
    unknown = [name for name in tastes if name not in known]
    if unknown or not tastes or len(set(tastes)) < len(tastes):
        raise SpecError(f"People cannot differ in {list(tastes)}; choose one or more of {', '.join(known)}, each once.")
    if instrumented and not data.instrument_names:
        raise SpecError("There are no instruments; name their columns, or take prices as given.")
    order = np.argsort(data.market, kind="stable")
    price = data.price * data.per_elasticity
    controls = within_products(data, data.controls)
    x = np.column_stack([within_products(data, price[:, None]), controls / controls.std(axis=0)])
    z = residual_of(data, data.instruments) if instrumented else np.zeros((len(price), 0))
    width = x.shape[1] - 1
    mean, sd = [priors.elasticity_mean, *[0.0] * width], [priors.elasticity_sd, *[priors.attribute_sd] * width]
    markets = Markets(
        log_share=np.log(data.share)[order],
        x=np.ascontiguousarray(
            np.column_stack([_column(data, name) * taste_unit(data, name) for name in tastes])[order]
        ),
        first=np.searchsorted(data.market[order], np.arange(len(data.markets) + 1)).astype(np.int64),
        nodes=people_nodes(people, len(tastes), seed),
    )
    z, v = np.ascontiguousarray(z[order]), residual_of(data, price[:, None])[order, 0]
    return PeopleRows(
        markets=markets,
        product=data.product[order],
        rows_of=np.bincount(data.product).astype(np.float64),
        level=data.centre,
        x=np.ascontiguousarray(x[order]),
        price=price[order],
        v=v,
        z=z,
        zz=z.T @ z,
        zv=z.T @ v,
        of_price=np.linalg.lstsq(x[:, 1:], x[:, 0], rcond=None)[0],
        mean=np.array([*mean, 0.0] if instrumented else mean),
        sd=np.array([*sd, priors.confounding_sd] if instrumented else sd),
        taste=np.array([priors.elasticity_between if name == PRICE else priors.taste_between for name in tastes]),
        scale=np.array([priors.noise_sd, priors.dummy_sd, priors.price_noise_sd]),
        slope_sd=priors.first_stage_sd / z.std(axis=0),
        freedom=float(len(price) - len(data.products) - width),
        price_at=list(tastes).index(PRICE) if PRICE in tastes else -1,
    )


def taste_unit(data: ShareData, name: str) -> float:
    """Utility per unit of a taste's column for one of its sd: price is in units of elasticity, others per sd."""
    if name == PRICE:
        return data.per_elasticity
    return 1.0 if name == LEVEL else 1.0 / float(_column(data, name).std())


def _column(data: ShareData, name: str) -> Floats:
    if name in {PRICE, LEVEL}:
        return data.price if name == PRICE else np.ones(len(data.price))
    if name in data.attribute_names:
        found: Floats = data.attributes[data.product, data.attribute_names.index(name)]
        return found
    return data.controls[:, data.control_names.index(name)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeopleMode:
    """Where the stepped coordinates are most likely given the least-squares first stage, and how sharply.

    Attributes
    ----------
    at : array (K + 1,)
        Sds of tastes (price in units of elasticity, others per sd of their column), log of the noise sd.
    covariance : array (K + 1, K + 1)
        Inverse of the curvature there.
    delta : array (n,)
        Mean utilities there, market by market.
    log_density : float
    """

    at: Floats
    covariance: Floats
    delta: Floats
    log_density: float


def find_mode(rows: PeopleRows) -> PeopleMode:
    """Climb the density of the stepped coordinates, the linear part integrated out.

    Raises
    ------
    Refusal
        If shares have no inverse where it starts, people alike: rounding alone can do that.
    """
    v, width = first_stage(rows)[0], len(rows.taste) + 1
    delta = np.zeros(len(rows.v))
    zero = np.append(np.full(width - 1, 1e-3), 0.0)
    if not np.isfinite(log_target(rows, zero, v, delta)):
        raise Refusal([_no_inverse()])

    def fall(at: Floats) -> float:
        trial = delta.copy()
        value = log_target(rows, at, v, trial)
        if not np.isfinite(value):
            return 1e10
        delta[:] = trial
        return -value

    start = np.append(0.5 * rows.taste, np.log(0.5 * rows.scale[0]))
    bounds = [*((0.0, LARGEST * scale) for scale in rows.taste), (-12.0, 5.0)]
    found = optimize.minimize(fall, start, method="L-BFGS-B", bounds=bounds, options={"eps": 1e-5, "maxiter": 60})
    at = np.asarray(found.x, dtype=np.float64)
    value = fall(at)
    step = np.append(0.02 * rows.taste, 0.02)
    curvature = np.empty((width, width))
    for a in range(width):
        for b in range(a + 1):
            one, other = step * (np.arange(width) == a), step * (np.arange(width) == b)
            corners = [fall(np.append(np.abs(p[:-1]), p[-1])) for p in (at + one + other, at - one - other)]
            mixed = [fall(np.append(np.abs(p[:-1]), p[-1])) for p in (at + one - other, at - one + other)]
            curvature[a, b] = curvature[b, a] = (sum(corners) - sum(mixed)) / (4.0 * step[a] * step[b])
    values, vectors = np.linalg.eigh(curvature * np.outer(step, step))
    covariance = (vectors / np.clip(values, 1e-4, None)) @ vectors.T * np.outer(step, step)
    fall(at)
    return PeopleMode(at=at, covariance=covariance, delta=delta, log_density=-value)


def first_stage(rows: PeopleRows) -> tuple[Floats, Floats]:
    """Residual and slopes of the first stage by least squares."""
    slopes = np.linalg.lstsq(rows.z, rows.v, rcond=None)[0] if rows.z.shape[1] else np.zeros(0)
    return rows.v - rows.z @ slopes, slopes


def _no_inverse() -> Finding:
    return Finding(
        code="no_inverse",
        severity="error",
        message="no mean utilities give these shares, however much alike people are",
        remedy="look for shares that leave almost nothing to the outside option",
    )
