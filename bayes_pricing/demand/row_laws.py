"""The laws of single rows' sales under draws of a posterior, whatever the family, and their log likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special, stats

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.posterior import DemandPosterior


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowLaws:
    """The laws of some rows' sales under draws of a posterior.

    Attributes
    ----------
    likelihood : str
    log_rate : array (draws, rows)
        Log of the median of log-normal sales, or of the mean of counts.
    sd : array (draws, rows)
        Residual sd of log units (the scale of Student-t errors); counts have none.
    degrees : array (draws, 1) or None
        Degrees of freedom of Student-t errors.
    size : array (draws, 1) or None
        Of the negative binomial.
    """

    likelihood: str
    log_rate: Floats
    sd: Floats | float = 1.0
    degrees: Floats | None = None
    size: Floats | None = None

    def log_units_law(self) -> Any:
        """Distribution of log units, a frozen scipy distribution of shape (draws, rows)."""
        if self.degrees is not None:
            return stats.t(self.degrees, loc=self.log_rate, scale=self.sd)
        return stats.norm(loc=self.log_rate, scale=self.sd)

    def count_law(self) -> Any:
        """Distribution of counts, a frozen scipy distribution of shape (draws, rows)."""
        mean = np.exp(self.log_rate)
        return stats.poisson(mean) if self.size is None else stats.nbinom(self.size, self.size / (self.size + mean))


def row_laws(posterior: DemandPosterior, rows: pl.DataFrame, draws: int) -> RowLaws:
    """What a posterior says of single rows, from at most `draws` draws, chain after chain.

    Parameters
    ----------
    posterior : DemandPosterior
    rows : DataFrame
        Columns ``item, price, quantity``, the spec's controls, and ``exposure`` where there is one.
    draws : int
    """
    spec = posterior.spec
    names = rows["item"].unique().sort().to_list()
    position = {name: at for at, name in enumerate(names)}
    at = np.array([position[name] for name in rows["item"]])
    items = posterior.items.filter(pl.col("item").is_in(names)).sort("item")
    coefficients = _thinned(posterior.coefficients("item", names).to_numpy(), draws)[:, at]
    own = [*spec.controls, *spec.deviations]
    controls = [*own, *spec.shared_controls]
    shared = _thinned(posterior.shared().to_numpy(), draws)
    effects = [coefficients[:, :, 2 + index] for index in range(len(own))]
    effects += [shared[:, None, index] for index in range(len(spec.shared_controls))]
    exposure = rows["exposure"].to_numpy() if "exposure" in rows.columns else np.ones(rows.height)
    log_rate = log_demand(
        level=coefficients[:, :, 0],
        elasticity=coefficients[:, :, 1],
        log_price=np.log(rows["price"].to_numpy()),
        reference_log_price=items["reference_log_price"].to_numpy()[at],
        effects=effects,
        controls=[rows[name].to_numpy() - items[f"mean_{name}"].to_numpy()[at] for name in controls],
        log_exposure=np.log(exposure),
    )
    if spec.likelihood == "poisson":
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate)
    hyper = posterior.hyper() if spec.likelihood != "lognormal" or spec.errors == "student_t" else None
    if hyper is None:
        sd = np.sqrt(2.0 * _thinned(posterior.log_smearing(names).to_numpy(), draws)[:, at])
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate, sd=sd)
    if spec.likelihood == "negative_binomial":
        size = _thinned(hyper["overdispersion"].to_numpy(), draws)[:, None] ** -2.0
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate, size=size)
    place = {name: index for index, name in enumerate(posterior.items["item"])}
    own_place = np.array([place[name] for name in rows["item"]])
    return RowLaws(
        likelihood=spec.likelihood,
        log_rate=log_rate,
        sd=_thinned(hyper["residual_sd"].to_numpy(), draws)[:, own_place],
        degrees=_thinned(hyper["degrees"].to_numpy(), draws),
    )


def _thinned(draws: NDArray[np.float64] | NDArray[np.float32], most: int) -> Floats:
    """(chain, draw, ...) as at most `most` evenly spaced draws, chain after chain."""
    flat = draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])
    every = max(len(flat) // most, 1)
    return flat[::every].astype(np.float64)


def row_log_likelihood(laws: RowLaws, quantity: Floats, gone: NDArray[np.bool_]) -> Floats:
    r"""Log probability of every row's units under every draw, (draws, rows); of sold-out rows that of at least as many.

    Counts have probabilities and log-normal sales densities. Where all units are whole, those of the log-normal become
    probabilities of the unit around each,

    .. math:: \Phi\left(\frac{\log(q + \tfrac12) - \eta}{\sigma}\right)
              - \Phi\left(\frac{\log(q - \tfrac12) - \eta}{\sigma}\right)
              \approx \frac1q \, N(\log q \mid \eta, \sigma^2),

    which for many units is the density of log units times its Jacobian; the latter is taken where units are fractions.

    Examples
    --------
    >>> laws = RowLaws(likelihood="lognormal", log_rate=np.zeros((1, 1)), sd=np.ones((1, 1)))
    >>> whole, fraction = (row_log_likelihood(laws, np.array([q]), np.array([False])) for q in (3.0, 3.001))
    >>> whole.round(2).tolist(), fraction.round(2).tolist()
    ([[-2.6]], [[-2.62]])
    """
    if laws.likelihood != "lognormal":
        law = laws.count_law()
        seen = np.asarray(law.logpmf(quantity))
        return np.where(gone, law.logsf(quantity - 1.0), seen) if gone.any() else seen
    law = laws.log_units_law()
    if np.array_equal(quantity, np.round(quantity)):
        seen = _log_between(laws, np.log(quantity - 0.5), np.log(quantity + 0.5))
    else:
        seen = np.asarray(law.logpdf(np.log(quantity))) - np.log(quantity)
    return np.where(gone, law.logsf(np.log(quantity)), seen) if gone.any() else seen


def _log_between(laws: RowLaws, low: Floats, high: Floats) -> Floats:
    """Log probability of log units between two values; in the upper half by the mirrored law, which keeps digits."""
    a, b = (low - laws.log_rate) / laws.sd, (high - laws.log_rate) / laws.sd
    flip = a > 0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    if laws.degrees is None:
        upper, lower = special.log_ndtr(b), special.log_ndtr(a)
    else:
        upper, lower = (np.asarray(stats.t.logcdf(x, laws.degrees)) for x in (b, a))
    found: Floats = upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-300)))
    return found
