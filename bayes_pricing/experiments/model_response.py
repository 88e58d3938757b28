"""The fitted model as a place to play tests in: own prices, rivals' prices, and the noise of sales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.profit import Economics, Objective

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitution:
    """How rivals' prices stand in a fitted model.

    Attributes
    ----------
    level : str
        Level of nesting whose items take buyers from each other (a category).
    control : str
        Control that holds the log of the geometric mean price of the item's rivals, such as ``log_rival_price`` for
        sales with a competitor price ``rival_price``. Its coefficient is the cross-price elasticity.
    move : float
        Change of every tested price as a share of today's, not zero, over -1.
    shock_sd : float
        Sd of what moves the log sales of all items together in a week, zero or more.
    """

    level: str
    control: str
    move: float
    shock_sd: float = 0.0

    def __post_init__(self) -> None:
        if not (-1 < self.move < float("inf") and self.move != 0 and 0 <= self.shock_sd < float("inf")):
            raise SpecError("Substitution.move is a share of the price over -1 and not 0; shock_sd is zero or more.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelResponse:
    r"""Sales of the fitted model where some items have their new price; implements `PriceResponse`.

    .. math:: \log q_{it} = a_i + \varepsilon_i \, m_{it} + \chi_i \, \bar m_{-i,t}

    with m the log price move of the item and :math:`\bar m_{-i}` the mean move of its rivals.

    Attributes
    ----------
    clusters : tuple of str
    worth : array (2, item)
    log_units, own, cross : arrays (draw, item)
        Log expected units today, own-price elasticity (its mean over the move), elasticity to all rivals' prices.
    log_move : float
    noise_sd : array (item,)
        Sd of log sales around what is expected; counts have none but their own.
    counts : bool
    shock_sd : float
    """

    clusters: tuple[str, ...]
    worth: Floats
    log_units: Floats
    own: Floats
    cross: Floats
    log_move: float
    noise_sd: Floats
    counts: bool
    shock_sd: float

    @property
    def draws(self) -> int:
        """Posterior draws."""
        return len(self.log_units)

    def expected_units(self, draw: int, new: Bools) -> Floats:
        """Expected units by period and item."""
        move = self.log_move * new
        codes = np.unique(np.array(self.clusters), return_inverse=True)[1]
        sizes = np.bincount(codes)
        totals = np.stack([np.bincount(codes, weights=row) for row in move])[:, codes]
        rivals = (totals - move) / np.maximum(sizes - 1, 1)[codes]
        return np.asarray(np.exp(self.log_units[draw] + self.own[draw] * move + self.cross[draw] * rivals))

    def sell(self, expected: Floats, rng: np.random.Generator) -> Floats:
        """Units sold: a shock common to all items, and Poisson or log-normal noise of the same mean."""
        shock = rng.normal(-0.5 * self.shock_sd**2, self.shock_sd, size=(len(expected), 1))
        mean = expected * np.exp(shock)
        if self.counts:
            return rng.poisson(mean).astype(np.float64)
        return np.asarray(mean * np.exp(rng.normal(-0.5 * self.noise_sd**2, self.noise_sd, size=mean.shape)))


def response_of_model(
    posterior: DemandPosterior,
    economics: Economics,
    substitution: Substitution,
    *,
    objective: Objective = "profit",
    items: Sequence[str] | None = None,
) -> ModelResponse:
    """Sales of the fitted model, ready for `interference.play_designs`.

    Parameters
    ----------
    posterior : DemandPosterior
    economics : Economics
    substitution : Substitution
    objective : {"profit", "revenue", "units"}
    items : sequence of str, optional
        Items of the test; all where left out.

    Raises
    ------
    SpecError
        If the model has no such level or control, or an item's worth is unknown.
    """
    table = select_items(posterior, None if items is None else sorted(items))
    if substitution.level not in table.columns:
        raise SpecError(f"The model has no level {substitution.level!r}; its levels are {list(posterior.spec.levels)}.")
    names = [str(name) for name in table["item"]]
    drawn = demand_draws(posterior, names)
    value = economics.unit_value(objective, table)
    if np.isnan(value.charge).any():
        raise SpecError("The cost of some items is unknown; give Economics.cost, or play the test for revenue.")
    today = drawn.current_price
    return ModelResponse(
        clusters=tuple(str(name) for name in table[substitution.level]),
        worth=np.stack([value.at(today), value.at(today * (1.0 + substitution.move))]),
        log_units=drawn.log_units_today.T,
        own=drawn.mean_elasticity(np.full(len(names), np.log1p(substitution.move))).T,
        cross=_cross(posterior, names, substitution.control),
        log_move=float(np.log1p(substitution.move)),
        noise_sd=np.sqrt(2.0 * drawn.log_smearing),
        counts=posterior.spec.likelihood != "lognormal",
        shock_sd=substitution.shock_sd,
    )


def _cross(posterior: DemandPosterior, names: Sequence[str], control: str) -> Floats:
    """Draws of the elasticity to rivals' prices, array (draw, item), from an own or a shared control."""
    spec = posterior.spec
    if control in spec.controls:
        chosen = posterior.coefficients("item", names).sel(coefficient=control).transpose("chain", "draw", "item")
        return np.asarray(chosen.to_numpy(), dtype=np.float64).reshape(-1, len(names))
    if control in spec.shared_controls:
        common = np.asarray(posterior.shared().sel(control=control).to_numpy(), dtype=np.float64).reshape(-1, 1)
        return np.repeat(common, len(names), axis=1)
    known = [*spec.controls, *spec.shared_controls]
    raise SpecError(f"The model has no control {control!r}; it has {known}. Name rivals' prices as a competitor price.")
