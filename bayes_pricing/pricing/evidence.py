"""Where an item's elasticity comes from: its own sales, its category, the population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import select_items
from bayes_pricing.demand.pooling import split_elasticity
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.pricing.decision import Estimate, estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """Part of an elasticity's posterior mean that comes from one source; the parts add up to the mean.

    Attributes
    ----------
    source : str
        ``own_data``, a nesting level's name, or ``population``.
    unit : str
        The item, the category's name, or ``population``.
    weight : float in [0, 1]
        Weight of the source; the weights add up to 1.
    elasticity : float
        Mean elasticity the source speaks for, weight x elasticity being the contribution.
    contribution : float
    """

    source: str
    unit: str
    weight: float
    elasticity: float
    contribution: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticityEvidence:
    """An item's elasticity and where it comes from.

    Attributes
    ----------
    estimate : Estimate
        Own-price elasticity, no unit.
    sd : float
    probability_elastic : float
        Posterior probability that demand falls by more than one per cent when the price rises by one.
    contributions : tuple of Contribution
        Own data first, the population last.
    other_coefficients : float or None
        Part that comes through the correlation with the item's other coefficients (level, controls) and those of its
        groups; None where it cannot be told apart from the own data's.
    simulation_error : float
        Posterior mean of the draws less the exact conditional means' average over the draws used: Monte-Carlo error,
        already shared out among the contributions by weight so that they add up to the mean; 0 where the split is
        taken from the draws themselves.
    exact : bool
        Whether the split is the model's own algebra (:mod:`bayes_pricing.demand.pooling`) or an approximation.
    method : str
        How the parts were found.
    at_price : float or None
        The price the elasticity is that of, the item's usual one, where it changes with price; None where it does not.
    """

    estimate: Estimate
    sd: float
    probability_elastic: float
    contributions: tuple[Contribution, ...]
    other_coefficients: float | None
    simulation_error: float
    exact: bool
    method: str
    at_price: float | None = None


EXACT = "exact given each hyper-draw of the Gaussian tree, averaged over {draws} of them"
APPROXIMATE = (
    "approximate: own weight from the model, weights above the item from posterior variances; the item's other "
    "coefficients count with its own data"
)


def elasticity_evidence(posterior: DemandPosterior, item: str, own: Floats | None = None) -> ElasticityEvidence:
    r"""Split an item's posterior mean elasticity into what its own sales, each level above it and the population say.

    .. math:: \bar\varepsilon_i = w_i\, o_i + (1 - w_i) \big( w_c\, o_c + (1 - w_c)(\dots \bar\mu) \big) + r_i

    For the Gaussian tree the weights :math:`w`, the elasticities :math:`o` that each source speaks for and the part
    :math:`r_i` of the other coefficients are exact on every hyper-draw and averaged. For other models :math:`w_i` is
    the model's own-data weight, :math:`w_c = 1 - \mathrm{Var}(\varepsilon_c - \mu) / E[\tau_c^2]` the pooling factor of
    each level above (Gelman & Pardoe 2006, clipped to [0, 1]) and each :math:`o` what makes the identity hold.

    Parameters
    ----------
    posterior : DemandPosterior
    item : str
    own : array (S,), optional
        The item's own elasticity draws where they are at hand.

    Returns
    -------
    ElasticityEvidence
    """
    own = _elasticity(posterior, "item", item) if own is None else own
    if isinstance(posterior, TreePosterior):
        parts, other, error, draws = _exact_parts(posterior, item, float(own.mean()))
    else:
        parts, other, error, draws = _approximate_parts(posterior, item, own), None, 0.0, 0
    return ElasticityEvidence(
        estimate=estimate(own),
        sd=float(own.std(ddof=1)),
        probability_elastic=float((own < -1.0).mean()),
        contributions=parts,
        other_coefficients=other,
        simulation_error=error,
        exact=draws > 0,
        method=EXACT.format(draws=draws) if draws else APPROXIMATE,
        at_price=_usual_price(posterior, item) if posterior.spec.curved else None,
    )


def _usual_price(posterior: DemandPosterior, item: str) -> float:
    return float(np.exp(select_items(posterior, [item])["reference_log_price"].item()))


def _exact_parts(
    posterior: TreePosterior, item: str, mean: float
) -> tuple[tuple[Contribution, ...], float, float, int]:
    """Contributions, other coefficients, Monte-Carlo error shared out, and the number of hyper-draws used."""
    split = split_elasticity(posterior, item)
    error = mean - float(split.mean.mean())
    weights = split.weight.mean(axis=1).tolist()
    contributions = (split.contribution.mean(axis=1) + error * split.weight.mean(axis=1)).tolist()
    parts = tuple(
        Contribution(
            source=source,
            unit=unit,
            weight=weight,
            elasticity=contribution / weight if weight > 0 else mean,
            contribution=contribution,
        )
        for (source, unit), weight, contribution in zip(split.sources, weights, contributions, strict=True)
    )
    return parts, float(split.other_coefficients.mean()), error, split.mean.size


def _approximate_parts(posterior: DemandPosterior, item: str, own: Floats) -> tuple[Contribution, ...]:
    row = select_items(posterior, [item]).row(0, named=True)
    units = [(level, str(row[level])) for level in posterior.spec.levels if level in row]
    chain = [("own_data", item, own)]
    chain += [(level, unit, _elasticity(posterior, level, unit)) for level, unit in units]
    chain.append(("population", "population", _elasticity(posterior, "population", None)))
    parts: list[Contribution] = []
    left = 1.0
    for place, (source, unit, draws) in enumerate(chain):
        weight, above = 1.0, np.zeros(1)
        if source != "population":
            above = chain[place + 1][2]
            weight = (
                _own_weight(posterior, item) if source == "own_data" else _pooling(posterior, source, draws - above)
            )
        part = left * (float(draws.mean()) - (1.0 - weight) * float(above.mean()))
        spoken = part / (left * weight) if left * weight > 0 else float(draws.mean())
        parts.append(Contribution(source=source, unit=unit, weight=left * weight, elasticity=spoken, contribution=part))
        left *= 1.0 - weight
    return tuple(parts)


def _elasticity(posterior: DemandPosterior, level: str, unit: str | None) -> Floats:
    draws = posterior.coefficients(level, None if unit is None else [unit]).sel(coefficient="log_price")
    if unit is not None:
        draws = draws.isel({level: 0})
    return np.asarray(draws.transpose("chain", "draw").to_numpy(), dtype=np.float64).ravel()


def _own_weight(posterior: DemandPosterior, item: str) -> float:
    place = int(posterior.items["item"].search_sorted(item))
    return float(np.clip(posterior.own_data_weight().to_numpy()[place], 0.0, 1.0))


def _pooling(posterior: DemandPosterior, level: str, offset: Floats) -> float:
    spread = posterior.variation(level).sel(coefficient="log_price").to_numpy()
    return float(np.clip(1.0 - offset.var() / np.mean(np.square(spread)), 0.0, 1.0))
