"""The Bayesian posterior behind the baselines' protocol, so that one table judges both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from bayes_pricing.baselines.protocol import Elasticities, Floats, SalesRows
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import Model, ModelRequest
from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Refusal

ROWS_AT_ONCE = 2_000
DRAWS_USED = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorDemand:
    """The hierarchical posterior as an estimator: everything left to `fit_demand`.

    Rows with instruments are fitted by the joint model of price and sales.

    Attributes
    ----------
    seed : int
    model : str
        As in `fit --model`.
    sampler : SamplerSettings
    probability : float in (0, 1)
        Of the elasticities' credible intervals.
    instrumented : bool
        Whether to use instruments where the rows have them; otherwise prices are taken as given.
    censored : bool
        Whether weeks that ran out count as wanted at least what was sold; otherwise sales are taken for demand.

    Examples
    --------
    >>> PosteriorDemand(seed=1).model
    'auto'
    """

    seed: int
    model: Model = "auto"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    probability: float = 0.9
    instrumented: bool = True
    censored: bool = True

    def fit(self, train: SalesRows) -> FittedPosterior:
        """Fit on training rows.

        Raises
        ------
        Refusal
            If no elasticity is identified, the instruments are weak, or the sampler did not converge.
        """
        started = time.perf_counter()
        train = train if self.instrumented else train.without_instruments()
        train = train if self.censored else train.without_stock()
        panel = SalesPanel.from_frame(train.frame, _roles(train))
        model = "poisson" if train.has_zeros and self.model == "auto" and not _zeros(train) else self.model
        fitted = fit_demand(panel, ModelRequest(model=model), self.sampler, seed=self.seed)
        if not fitted.diagnostics.passed:
            raise Refusal(fitted.diagnostics.findings)
        return FittedPosterior.of(fitted, train, self.probability, time.perf_counter() - started)


def _zeros(rows: SalesRows) -> bool:
    return bool((rows.frame["quantity"] == 0).any())


def _roles(rows: SalesRows) -> ColumnRoles:
    names = rows.frame.columns
    return ColumnRoles(
        item="item",
        price="price",
        quantity="quantity",
        levels=rows.levels,
        period="period" if "period" in names else None,
        region="region" if "region" in names else None,
        exposure="exposure" if "exposure" in names else None,
        stock="stock" if "stock" in names else None,
        sold_out="sold_out" if "sold_out" in names else None,
        controls=rows.controls,
        shared_controls=rows.shared_controls,
        instruments=rows.instruments,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedPosterior:
    """A fitted posterior; an item that was never seen is taken as the item of median units of its category.

    Attributes
    ----------
    name : str
    seconds : float
    probability : float in (0, 1)
    posterior : DemandPosterior
    leaf_of : dict
        Items to the posterior's units: more than one where items are sold in regions.
    stand_in : dict of str to str
        For each category the unit that stands in for new items; under an empty name the one for new categories.
    group : str or None
        The column that names the category.
    regional : bool
    """

    name: str
    seconds: float
    probability: float
    posterior: DemandPosterior
    leaf_of: dict[str, tuple[str, ...]]
    stand_in: dict[str, str]
    group: str | None
    regional: bool

    @classmethod
    def of(cls, fitted: DemandFit, rows: SalesRows, probability: float, seconds: float) -> FittedPosterior:
        """Wrap a fit of the rows' panel."""
        posterior = fitted.posterior
        known = set(posterior.items["item"])
        regional = "region" in rows.frame.columns
        leaves: dict[str, tuple[str, ...]] = {}
        for row in rows.frame.select(rows.keys).unique(maintain_order=True).sort(rows.keys).iter_rows():
            leaf = " @ ".join(str(part) for part in row)
            if leaf in known:
                leaves[row[0]] = (*leaves.get(row[0], ()), leaf)
        how = posterior.spec.likelihood.replace("_", " ") + (", instrumented" if rows.instruments else "")
        return cls(
            name=f"posterior ({how})",
            seconds=seconds,
            probability=probability,
            posterior=posterior,
            leaf_of=leaves,
            stand_in=_stand_ins(posterior.items, rows.group),
            group=rows.group,
            regional=regional,
        )

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Posterior mean of expected units of each row, shape (n_rows,)."""
        parts = [np.exp(self._log_units(part, smeared=True)).mean(axis=0) for part in frame.iter_slices(ROWS_AT_ONCE)]
        return np.concatenate(parts)

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Posterior predictive draws of units, shape (n_draws, n_rows): of parameters and of the noise of sales."""
        parts = [self._draws(part, n_draws, rng) for part in frame.iter_slices(ROWS_AT_ONCE)]
        return np.concatenate(parts, axis=1)

    def own_price_elasticity(self, items: Sequence[str], at_prices: ArrayLike) -> Elasticities:
        """Posterior elasticity of each item (mean over its regions), the same at every price."""
        draws, seen = self._elasticity_draws(items)
        return self._elasticities(items, draws, seen)

    def mean_elasticity(self, items: Sequence[str], at_prices: ArrayLike, groups: Sequence[str]) -> Elasticities:
        """Posterior of the mean elasticity of the items of each group, on joint draws."""
        draws, seen = self._elasticity_draws(items)
        label, names = np.asarray(groups, dtype=object), sorted(set(groups))
        members = [(label == name) & seen for name in names]
        means = np.stack([draws[:, who].mean(axis=1) if who.any() else draws[:, 0] for who in members], axis=1)
        return self._elasticities(names, means, np.array([who.sum() for who in members]))

    def _elasticities(self, name: Sequence[str], draws: Floats, n_items: ArrayLike) -> Elasticities:
        counts = np.asarray(n_items, dtype=np.int64)
        summary = Elasticities.from_draws(
            name, draws, probability=self.probability, interval_kind="credible", n_items=counts.tolist()
        )
        known = counts > 0
        return Elasticities(
            name=summary.name,
            mean=np.where(known, summary.mean, np.nan),
            lower=np.where(known, summary.lower, -np.inf),
            upper=np.where(known, summary.upper, np.inf),
            probability=self.probability,
            interval_kind="credible",
            n_items=summary.n_items,
        )

    def _elasticity_draws(self, items: Sequence[str]) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Draws (draw, item), and which items the posterior knows."""
        leaves = sorted({leaf for item in set(items) for leaf in self.leaf_of.get(item, ())})
        values = self.posterior.coefficients("item", leaves).sel(coefficient="log_price").to_numpy()
        flat = values.reshape(-1, len(leaves)).astype(np.float64)
        position = {leaf: at for at, leaf in enumerate(leaves)}
        seen = np.array([item in self.leaf_of for item in items])
        columns = [
            flat[:, [position[leaf] for leaf in self.leaf_of[item]]].mean(axis=1)
            if item in self.leaf_of
            else np.zeros(len(flat))
            for item in items
        ]
        return np.stack(columns, axis=1), seen

    def _log_units(self, frame: pl.DataFrame, *, smeared: bool) -> Floats:
        """Draws of log expected units, dims (draw, row); of median units where not smeared."""
        spec, table = self.posterior.spec, self.posterior.items
        names = self._row_leaves(frame)
        leaves = sorted(set(names))
        at = np.array([{leaf: place for place, leaf in enumerate(leaves)}[name] for name in names])
        items = table.filter(pl.col("item").is_in(leaves)).sort("item")
        coefficients = _thinned(self.posterior.coefficients("item", leaves).to_numpy())[:, at]
        shared = _thinned(self.posterior.shared().to_numpy())
        controls = [*spec.controls, *spec.shared_controls]
        effects = [coefficients[:, :, 2 + index] for index in range(len(spec.controls))]
        effects += [shared[:, None, index] for index in range(len(spec.shared_controls))]
        exposure = frame["exposure"].to_numpy() if "exposure" in frame.columns else np.ones(frame.height)
        log_units = log_demand(
            level=coefficients[:, :, 0],
            elasticity=coefficients[:, :, 1],
            log_price=np.log(frame["price"].to_numpy()),
            reference_log_price=items["reference_log_price"].to_numpy()[at],
            effects=effects,
            controls=[
                frame[name].cast(pl.Float64).to_numpy() - items[f"mean_{name}"].to_numpy()[at] for name in controls
            ],
            log_exposure=np.log(exposure),
        )
        if smeared:
            log_units = log_units + _thinned(self.posterior.log_smearing(leaves).to_numpy())[:, at]
        return np.asarray(log_units, dtype=np.float64)

    def _row_leaves(self, frame: pl.DataFrame) -> list[str]:
        """The posterior's unit of each row; a new item has its category's stand-in, a new region the item's first."""
        known = set(self.posterior.items["item"])
        keys = ("item", "region") if self.regional else ("item",)
        group_of = pl.col(self.group) if self.group is not None and self.group in frame.columns else pl.lit("")
        groups = frame.select(group_of.cast(pl.String).alias("group"), pl.col("item"))["group"].to_list()
        found = []
        for row, group in zip(frame.select(keys).iter_rows(), groups, strict=True):
            leaf = " @ ".join(str(part) for part in row)
            if leaf not in known:
                leaf = (
                    self.leaf_of[row[0]][0] if row[0] in self.leaf_of else self.stand_in.get(group, self.stand_in[""])
                )
            found.append(leaf)
        return found

    def _draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        spec = self.posterior.spec
        centre = self._log_units(frame, smeared=False)
        chosen = np.linspace(0, len(centre) - 1, n_draws).astype(int)
        if spec.likelihood == "lognormal":
            leaves = self._row_leaves(frame)
            names = sorted(set(leaves))
            at = np.array([{leaf: place for place, leaf in enumerate(names)}[leaf] for leaf in leaves])
            sd = np.sqrt(2 * _thinned(self.posterior.log_smearing(names).to_numpy())[:, at])[chosen]
            return np.asarray(np.exp(centre[chosen] + sd * rng.standard_normal(sd.shape)))
        mean = np.exp(centre[chosen])
        if spec.likelihood == "negative_binomial":
            shape = _thinned(self.posterior.hyper()["overdispersion"].to_numpy())[chosen, None] ** -2.0
            mean = mean * rng.gamma(shape, 1 / shape, size=mean.shape)
        return np.asarray(rng.poisson(mean), dtype=np.float64)


def _stand_ins(items: pl.DataFrame, group: str | None) -> dict[str, str]:
    """The item of median units of each category, and of all under an empty name."""
    ordered = items.sort("units_per_period", "item")
    found = {"": str(ordered["item"][ordered.height // 2])}
    if group is not None:
        for (name,), members in ordered.group_by(group):
            found[str(name)] = str(members["item"][members.height // 2])
    return found


def _thinned(draws: Floats) -> Floats:
    """(chain, draw, ...) as at most 400 evenly spaced draws."""
    flat = draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])
    return flat[:: max(len(flat) // DRAWS_USED, 1)].astype(np.float64)
