"""Share logit with an outside option: product effects, price coefficients by market, prices taken as given or not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayes_pricing.demand.choice_data import CONSTANT, OUTSIDE, Floats
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_arrays
from bayes_pricing.demand.nuts import SamplingPlan, lengthen, sample_nuts
from bayes_pricing.demand.nuts_chain import Chain
from bayes_pricing.demand.prior_ranges import require_prior_ranges
from bayes_pricing.demand.shares_data import ShareData, control_basis, residual_of, within_products
from bayes_pricing.demand.shares_density import ShareRows, run_chain, size_of
from bayes_pricing.errors import Refusal, SpecError

TARGET_ACCEPTANCE = (0.85, 0.95, 0.99)
TUNE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePriors:
    r"""Prior distributions of a share logit in economic units.

    The own elasticity of a logit is :math:`\beta_p p (1 - s)`; the price coefficient is stated by the elasticity at
    mean price and mean share.

    Attributes
    ----------
    elasticity_mean, elasticity_sd : float
        Of the mean own elasticity (Bijmolt, van Heerde & Pieters 2005).
    elasticity_between : float
        Half-normal scale of its sd between markets, or between people of one market.
    level_sd : float
        Of the mean product's utility around the mean log ratio of shares.
    product_sd : float
        Half-normal scale of the sd between products; without a hierarchy `dummy_sd` is the sd itself.
    dummy_sd : float
        Sd of a product's dummy: wide.
    attribute_sd : float
        Utility per sd of an attribute or control.
    noise_sd : float
        Half-normal scale of the sd of utility that nothing explains.
    confounding_sd : float
        Of lambda, by how much more utility moves with the unexplained part of price than price makes it (elasticity).
    first_stage_sd : float
        Change of price, in mean prices, over one sd of an instrument.
    price_noise_sd : float
        Half-normal scale of the sd of price that instruments leave, in mean prices.
    taste_between : float
        Half-normal scale of the sd between people of other tastes: utility, per sd of an attribute or control.
    """

    elasticity_mean: float = -2.62
    elasticity_sd: float = 1.4
    elasticity_between: float = 0.7
    level_sd: float = 2.5
    product_sd: float = 1.5
    dummy_sd: float = 10.0
    attribute_sd: float = 1.0
    noise_sd: float = 1.0
    confounding_sd: float = 3.0
    first_stage_sd: float = 0.5
    price_noise_sd: float = 0.5
    taste_between: float = 1.0

    def __post_init__(self) -> None:
        require_prior_ranges(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharePosterior:
    r"""Joint draws of a share logit.

    Attributes
    ----------
    id : str
        Digest of data, priors, seed and draws.
    data : ShareData
    hierarchical, instrumented : bool
    elasticity : array (chain, draw)
        Own elasticity at mean price and mean share: the price coefficient in units people know.
    by_market : array (chain, draw, T) or None
        The same for every market; None without a hierarchy.
    product : array (chain, draw, J)
        Utility of a product at its own mean price and controls.
    slopes : array (chain, draw, A + c)
        Utility per unit of each attribute, then each control; without a hierarchy an attribute stands in the products.
    scales : mapping of str to array (chain, draw)
        ``noise_sd``; with a hierarchy ``product_sd`` and ``market_sd`` (elasticity); with instruments ``confounding``
        (lambda, elasticity) and ``price_noise_sd`` (in mean prices).
    first_stage : array (chain, draw, q) or None
        Price per unit of each instrument, currency.
    diagnostics : Diagnostics
    seed : int
    """

    id: str
    data: ShareData
    hierarchical: bool
    instrumented: bool
    elasticity: Floats
    by_market: Floats | None
    product: Floats
    slopes: Floats
    scales: dict[str, Floats]
    first_stage: Floats | None
    diagnostics: Diagnostics
    seed: int

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Products, then the outside option."""
        return (*self.data.products, OUTSIDE)

    @property
    def regressors(self) -> tuple[str, ...]:
        """``constant:<product>``, ``price``, attributes (with a hierarchy) and controls."""
        attributes = self.data.attribute_names if self.hierarchical else ()
        return (*(CONSTANT + name for name in self.data.products), "price", *attributes, *self.data.control_names)

    @property
    def price_coefficient(self) -> Floats:
        """Utility per unit of currency in the mean market, (chain, draw); negative."""
        found: Floats = self.elasticity * self.data.per_elasticity
        return found

    @property
    def mean(self) -> Floats:
        """Coefficients of the regressors in the mean market, (chain, draw, K)."""
        data = self.data
        controls = np.column_stack(
            [data.product_means(column) for column in data.controls.T] or [np.empty((len(data.products), 0))]
        )
        parts = np.hstack([data.attributes, controls]) if self.hierarchical else controls
        constant = self.product - self.price_coefficient[:, :, None] * data.product_means(data.price)
        constant = constant - np.einsum("cdk,jk->cdj", self.slopes, parts)
        return np.concatenate([constant, self.price_coefficient[:, :, None], self.slopes], axis=2)

    def typical(self) -> Floats:
        """Regressors (J + 1, K) of a market with every product at its mean price and controls."""
        data, width = self.data, len(self.regressors)
        x = np.zeros((len(data.products) + 1, width))
        x[:-1, : len(data.products)] = np.eye(len(data.products))
        columns = [data.product_means(data.price)]
        columns += list(data.attributes.T) if self.hierarchical else []
        columns += [data.product_means(column) for column in data.controls.T]
        x[:-1, len(data.products) :] = np.column_stack(columns)
        return x

    def tastes(self, people: int) -> Floats:
        """Coefficients (draw, 1, K): everybody in the mean market has the same."""
        return self.mean.reshape(-1, 1, len(self.regressors))

    def coefficients(self) -> xr.DataArray:
        """Coefficients in the mean market, dims (chain, draw, coefficient)."""
        return xr.DataArray(
            self.mean, dims=("chain", "draw", "coefficient"), coords={"coefficient": list(self.regressors)}
        )

    def own_elasticities(self) -> xr.DataArray:
        r"""Own-price elasticity of each product, dims (draw, product): mean over its markets of :math:`a_t p (1 - s)`.

        At the prices and shares observed. The mean over all rows is :meth:`mean_own_elasticity`.
        """
        data = self.data
        weight = data.price * (1.0 - data.share) / np.bincount(data.product)[data.product]
        return xr.DataArray(
            self._weighted(weight, len(data.products), data.product),
            dims=("draw", "product"),
            coords={"product": list(data.products)},
        )

    def mean_own_elasticity(self) -> xr.DataArray:
        """Mean over all rows of the own-price elasticity at observed prices and shares, dims (draw,)."""
        data = self.data
        weight = data.price * (1.0 - data.share) / len(data.price)
        everything = np.zeros(len(data.price), dtype=np.int64)
        return xr.DataArray(self._weighted(weight, 1, everything)[:, 0], dims=("draw",))

    def _weighted(self, weight: Floats, groups: int, group: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Floats:
        """Sums (draw, group) of row weights times the price coefficient of the row's market."""
        per = self.data.per_elasticity
        if self.by_market is None:
            found: Floats = self.elasticity.reshape(-1, 1) * per * np.bincount(group, weight, groups)
            return found
        table = np.zeros((len(self.data.markets), groups))
        np.add.at(table, (self.data.market, group), weight)
        by_market: Floats = self.by_market.reshape(-1, len(self.data.markets)) @ table * per
        return by_market


def pose_shares(data: ShareData, priors: SharePriors, *, hierarchical: bool, instrumented: bool) -> ShareRows:
    """Data and prior as the density reads them.

    Raises
    ------
    SpecError
        If instruments are to be used and there are none.
    """
    if instrumented and not data.instrument_names:
        raise SpecError("There are no instruments; name their columns, or take prices as given.")
    price = data.price[:, None] * data.per_elasticity
    y = data.log_ratio
    controls = within_products(data, data.controls)
    controls = controls / controls.std(axis=0)
    around = data.attributes - data.attributes.mean(axis=0)
    attributes = around / np.where(around.std(axis=0) > 0, around.std(axis=0), 1.0)
    of_product = (
        np.hstack([np.ones((len(data.products), 1)), attributes]) if hierarchical else np.empty((len(data.products), 0))
    )
    m, c = of_product.shape[1], controls.shape[1]
    level = np.full(m, priors.attribute_sd)
    level[:1] = priors.level_sd
    mean = np.zeros(m + 1 + c)
    mean[m] = priors.elasticity_mean
    z, v = np.zeros((len(y), 0)), np.zeros(len(y))
    slope, factor, slope_sd = np.zeros(0), np.zeros((0, 0)), np.zeros(0)
    if instrumented:
        z, v = residual_of(data, data.instruments), residual_of(data, price)[:, 0]
        slope = np.linalg.lstsq(z, v, rcond=None)[0]
        left = v - z @ slope
        factor = np.linalg.cholesky(float(left @ left) / (len(y) - len(slope)) * np.linalg.inv(z.T @ z))
        slope_sd = priors.first_stage_sd / z.std(axis=0)
    return ShareRows(
        y=y - data.centre,
        price=within_products(data, price)[:, 0].copy(),
        x=np.ascontiguousarray(controls),
        v=v,
        z=np.ascontiguousarray(z),
        basis=control_basis(data) if instrumented else np.zeros((len(y), 0)),
        first=np.searchsorted(data.product, np.arange(len(data.products) + 1)).astype(np.int64),
        market=data.market,
        markets=len(data.markets) if hierarchical else 0,
        of_product=np.ascontiguousarray(of_product),
        mean=mean,
        sd=np.concatenate([level, [priors.elasticity_sd], np.full(c, priors.attribute_sd)]),
        scale=np.array(
            [
                priors.noise_sd,
                priors.product_sd if hierarchical else priors.dummy_sd,
                priors.elasticity_between,
                priors.price_noise_sd,
                priors.confounding_sd,
            ]
        ),
        slope=slope,
        factor=factor,
        slope_sd=slope_sd,
    )


def fit_shares(
    data: ShareData,
    *,
    hierarchical: bool,
    instrumented: bool,
    seed: int,
    priors: SharePriors | None = None,
    draws: int = 1000,
    tune: int = TUNE,
    chains: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> SharePosterior:
    """Posterior of a share logit.

    Parameters
    ----------
    data : ShareData
    hierarchical : bool
        Product effects around a mean that attributes explain, and a price coefficient for every market; without it,
        wide product dummies and one price coefficient.
    instrumented : bool
        Model price beside shares, so that prices that follow demand do no harm; needs instruments.
    seed : int
    priors : SharePriors, optional
    draws, tune, chains : int
    progress : callable, optional
        Told now and then the iterations done and in all.

    Raises
    ------
    Refusal
        If the sampler did not pass the gate.
    SpecError
        If instruments are to be used and there are none.
    """
    priors = priors if priors is not None else SharePriors()
    rows = pose_shares(data, priors, hierarchical=hierarchical, instrumented=instrumented)
    size = size_of(rows)

    def run(rng: np.random.Generator, chain: Chain) -> None:
        run_chain(rng, chain, rows)

    def start(rng: np.random.Generator) -> Floats:
        return 0.1 * rng.standard_normal(size)

    report = None if progress is None else (lambda done, total, _warming: progress(done, total))

    def judged(every: int) -> tuple[_Drawn, Diagnostics]:
        plan = SamplingPlan(draws=draws, tune=tune, chains=chains, seed=seed, every=every)
        found = sample_nuts(lambda: run, start, plan, TARGET_ACCEPTANCE, report)
        drawn = _draws(found.x, rows, np.random.default_rng([seed, 2]))
        statistics = SamplerStatistics(divergences=found.divergences, energy=found.energy)
        return drawn, check_arrays(*drawn.parameters(), statistics)

    drawn, diagnostics, _ = lengthen(judged)
    if not diagnostics.passed:
        raise Refusal(diagnostics.findings)
    digest = hashlib.blake2b(repr((priors, seed, hierarchical, instrumented)).encode(), digest_size=32)
    for array in (data.share, data.price, data.controls, data.instruments, drawn.elasticity, drawn.product):
        digest.update(np.ascontiguousarray(array).data)
    spread = np.concatenate([data.attributes.std(axis=0), within_products(data, data.controls).std(axis=0)])
    spread = spread[len(spread) - drawn.slopes.shape[2] :]
    return SharePosterior(
        id=digest.hexdigest(),
        data=data,
        hierarchical=hierarchical,
        instrumented=instrumented,
        elasticity=drawn.elasticity,
        by_market=drawn.by_market,
        product=drawn.product + data.centre,
        slopes=drawn.slopes / np.where(spread > 0, spread, 1.0),
        scales=drawn.scales,
        first_stage=None if drawn.first_stage is None else drawn.first_stage / data.per_elasticity,
        diagnostics=diagnostics,
        seed=seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    elasticity: Floats
    by_market: Floats | None
    product: Floats
    slopes: Floats
    scales: dict[str, Floats]
    first_stage: Floats | None

    def parameters(self) -> tuple[Floats, Floats]:
        """What the gate looks at: everything above products and markets, the worst of those."""
        upper = [self.elasticity[:, :, None], self.slopes, *(values[:, :, None] for values in self.scales.values())]
        upper += [] if self.first_stage is None else [self.first_stage]
        lower = [self.product] if self.by_market is None else [self.product, self.by_market]
        return np.concatenate(upper, axis=2), np.concatenate(lower, axis=2)


def _draws(x: Floats, rows: ShareRows, rng: np.random.Generator) -> _Drawn:
    """Parameters from the coordinates; product effects given the rest are drawn here."""
    m, linear, q = rows.of_product.shape[1], len(rows.mean), rows.z.shape[1]
    own = rows.mean + rows.sd * x[:, :, :linear]
    noise, spread = np.exp(x[:, :, linear]), np.full(x.shape[:2], rows.scale[1])
    scales, by_market, first_stage = {"noise_sd": noise}, None, None
    if rows.markets:
        spread, between = np.exp(x[:, :, linear + 1]), np.exp(x[:, :, linear + 2])
        scales |= {"product_sd": spread, "market_sd": between}
        by_market = own[:, :, m : m + 1] + between[:, :, None] * x[:, :, linear + 3 : linear + 3 + rows.markets]
    confounded = np.zeros(x.shape[:2])
    if q:
        at = linear + 1 + (2 + rows.markets if rows.markets else 0)
        lam, stage = rows.scale[4] * x[:, :, at], np.exp(x[:, :, at + 1 + q])
        confounded = lam * stage
        scales |= {"confounding": lam, "price_noise_sd": stage}
        first_stage = rows.slope + x[:, :, at + 1 : at + 1 + q] @ rows.factor.T
    length = np.diff(rows.first).astype(float)
    product_of = np.repeat(np.arange(len(length)), np.diff(rows.first))
    centre = own[:, :, :m] @ rows.of_product.T
    left = np.bincount(product_of, rows.y) / length - centre  # everything else has mean zero within a product,
    if by_market is not None:  # but for price times its market's own coefficient
        weight = np.zeros((rows.markets, len(length)))
        np.add.at(weight, (rows.market, product_of), rows.price / length[product_of])
        left = left - (by_market - own[:, :, m : m + 1]) @ weight
    variance, of_price = noise[:, :, None] ** 2 / length, confounded[:, :, None] ** 2 / length
    own_variance = spread[:, :, None] ** 2
    both = own_variance + of_price
    kept = both / (both + variance)
    effect = kept * left + np.sqrt(kept * variance) * rng.standard_normal(left.shape)
    share = own_variance / both
    product = centre + share * effect + np.sqrt(share * of_price) * rng.standard_normal(left.shape)
    return _Drawn(
        elasticity=own[:, :, m].copy(),
        by_market=by_market,
        product=product,
        slopes=np.concatenate([own[:, :, 1:m], own[:, :, m + 1 :]], axis=2),
        scales=scales,
        first_stage=first_stage,
    )
