"""Demand models as PyMC graphs, row by row: the definition that faster samplers are held to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pymc as pm  # type: ignore[import-untyped]
from pymc.distributions.dist_math import normal_lccdf  # type: ignore[import-untyped]
from pytensor import tensor as pt

from bayes_pricing.demand.censoring import Functions, RowData, log_at_least, log_t_above
from bayes_pricing.demand.count_data import CountData
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE, count_prior
from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.gaussian_tree import SalesRows, TreeData
from bayes_pricing.demand.tree_prior import TreePrior
from bayes_pricing.errors import SpecError

PYTENSOR = Functions(
    log=pt.log, cos=pt.cos, arctan=pt.arctan, maximum=pt.maximum, gammaln=pt.gammaln, logsumexp=pm.math.logsumexp
)


def build_lognormal_model(rows: SalesRows, data: TreeData, prior: TreePrior, *, non_centred: bool = False) -> pm.Model:
    r"""The Gaussian tree's posterior written row by row, every coefficient a parameter.

    .. math:: \log q_{it} \sim N(\alpha_i + \varepsilon_i (\log p_{it} - \overline{\log p}_i) + \beta_i' c_{it}
              + \gamma' z_{it}, \; \sigma_i^2), \qquad
              (\alpha_i, \varepsilon_i, \beta_i) \sim N(\mu_{parent(i)}, \; D_\ell R_\ell R_\ell' D_\ell)

    With autocorrelation :math:`\rho` the errors are :math:`e_{it} = \rho e_{i,t-1} + N(0, \sigma_i^2)`, stationary.

    Parameters
    ----------
    rows : SalesRows
    data : TreeData
        Which items, levels and noise groups there are.
    prior : TreePrior
    non_centred : bool
        Sample standardised offsets from the parent (``<level>_offset``) instead of the coefficients: the same
        posterior in coordinates that suit units with few rows.

    Returns
    -------
    pm.Model
        Parameters ``sd_<level>``, ``partial_<level>`` ((1 + canonical partial correlation) / 2), ``noise_sd``,
        ``population``, ``shared``, one matrix of coefficients per level, and with noise by item ``noise_spread`` and
        ``item_noise_sd``; observed ``log_units``.
    """
    with pm.Model() as model:
        k = len(data.coefficients)
        above, shared = _hierarchy(data, prior, data.level_names if non_centred else ())
        controls, shared_controls = rows.controls, rows.shared_controls
        expected = log_demand(
            level=above[rows.item, 0],
            elasticity=above[rows.item, 1],
            log_price=rows.log_price,
            reference_log_price=rows.reference_log_price,
            effects=[above[rows.item, 2 + c] for c in range(k - 2)]
            + [shared[c] for c in range(len(prior.root_mean) - k)],
            controls=[*controls.T, *shared_controls.T],
        )
        noise_sd = _noise_sd(data, prior)[rows.item]
        if data.spec.autocorrelation:
            expected, noise_sd = _given_own_past(rows, expected, noise_sd, data.spec.autocorrelation)
        pm.Normal("log_units", expected, noise_sd, observed=rows.log_units)
    return model


def _given_own_past(rows: SalesRows, expected: Any, noise_sd: Any, rho: float) -> tuple[Any, Any]:
    """Expectation and sd of a row given the one before; those of the stationary distribution where there is none."""
    if rows.previous is None:
        raise SpecError("The specification has autocorrelation; say which row stands before each (previous).")
    follows = rows.previous >= 0
    before = np.where(follows, rows.previous, 0)
    carried = rho * follows * (rows.log_units[before] - expected[before])
    return expected + carried, noise_sd * np.where(follows, 1.0, 1.0 / np.sqrt(1.0 - rho**2))


def build_row_model(data: RowData, prior: TreePrior) -> pm.Model:
    r"""Demand row by row, with sold-out weeks censored at what was sold and, where asked for, Student-t errors.

    A sold-out week that sold :math:`q` units says no more than that demand was at least `q`:

    .. math:: \log P(Q \ge q) = \log \left(1 - F(\log q)\right) \quad\text{or}\quad \log \sum_{n \ge q} P(n)

    Student-t errors have :math:`\nu \sim \text{Gamma}(2, 0.1)`.

    Parameters
    ----------
    data : RowData
    prior : TreePrior

    Returns
    -------
    pm.Model
        Parameters as in :func:`build_lognormal_model` and :func:`build_count_model`, deterministic ``residual_sd`` of
        the items, and ``degrees`` of freedom of Student-t errors.

    References
    ----------
    Juárez & Steel (2010), "Model-based clustering of non-Gaussian panel data", J. Business & Economic Statistics 28(1).
    """
    k = len(data.spec.item_coefficients)
    with pm.Model() as model:
        item, shared = _hierarchy(data.tree, prior)
        controls = [*data.predictors[:, 2:].T]
        log_mean = log_demand(
            level=item[data.item, 0],
            elasticity=item[data.item, 1],
            log_price=data.predictors[:, 1],
            reference_log_price=0.0,
            effects=[item[data.item, at] for at in range(2, k)] + [shared[c] for c in range(len(controls) - k + 2)],
            controls=controls,
        )
        if data.spec.likelihood == "lognormal":
            _log_rows(data, log_mean, prior)
        else:
            _count_rows(data, pt.exp(log_mean + data.log_exposure))
    return model


def _log_rows(data: RowData, log_mean: Any, prior: TreePrior) -> None:
    """Log units with their errors; sold-out rows by their survival probability."""
    sd = pm.Deterministic("residual_sd", _noise_sd(data.tree, prior))[data.item]
    seen, gone = np.flatnonzero(~data.sold_out), np.flatnonzero(data.sold_out)
    if data.spec.errors == "student_t":
        degrees = pm.Gamma("degrees", 2.0, 0.1)
        pm.StudentT("log_units", nu=degrees, mu=log_mean[seen], sigma=sd[seen], observed=data.log_units[seen])
    else:
        pm.Normal("log_units", log_mean[seen], sd[seen], observed=data.log_units[seen])
    if not len(gone):
        return
    if data.spec.errors == "student_t":
        above = log_t_above((data.log_units[gone] - log_mean[gone]) / sd[gone], degrees, PYTENSOR)
    else:
        above = normal_lccdf(log_mean[gone], sd[gone], data.log_units[gone])
    pm.Potential("sold_out", above.sum())


def _count_rows(data: RowData, mean: Any) -> None:
    """Counts; sold-out rows by the probability of at least as many."""
    seen, gone = np.flatnonzero(~data.sold_out), np.flatnonzero(data.sold_out & (data.quantity > 0))
    size = None
    if data.spec.likelihood == "negative_binomial":
        size = pm.HalfNormal("overdispersion", OVERDISPERSION_SCALE) ** -2.0
        pm.NegativeBinomial("units", mu=mean[seen], alpha=size, observed=data.quantity[seen])
    else:
        pm.Poisson("units", mean[seen], observed=data.quantity[seen])
    if len(gone):
        pm.Potential("sold_out", log_at_least(data.quantity[gone], mean[gone], size, PYTENSOR).sum())


def build_count_model(data: CountData) -> pm.Model:
    r"""Hierarchical Poisson or negative binomial demand, every coefficient a parameter.

    .. math:: \log E[n_r] = \alpha_i + \varepsilon_i (\log p_r - \overline{\log p}_i) + \beta_i' c_r + \gamma' z_r
              + \log(\text{exposure}_r), \qquad
              (\alpha_i, \varepsilon_i, \beta_i) \sim N(\mu_{parent(i)}, \; D_\ell R_\ell R_\ell' D_\ell)

    Rows are Poisson, or negative binomial with variance :math:`\mu + \mu^2 / \varphi` and
    :math:`1 / \sqrt\varphi \sim N^+(0, 1)`, how far sales vary beyond chance relative to their mean, for all items.
    Observed are totals of cells. The total of :math:`W` negative binomial rows is one of size :math:`W \varphi`, and
    how it fell on the rows is the potential ``rows_given_totals``: together exactly the likelihood of the rows.

    Parameters
    ----------
    data : CountData

    Returns
    -------
    pm.Model
        Parameters ``sd_<level>``, ``partial_<level>``, ``population``, ``shared`` and one matrix of coefficients per
        level as in :func:`build_lognormal_model`, and ``overdispersion`` for the negative binomial; observed ``units``,
        the totals of the cells.
    """
    prior, k = count_prior(data), len(data.spec.item_coefficients)
    with pm.Model() as model:
        item, shared = _hierarchy(data.tree, prior)
        log_mean = log_demand(
            level=item[data.item, 0],
            elasticity=item[data.item, 1],
            log_price=data.predictors[:, 1],
            reference_log_price=0.0,
            effects=[item[data.item, at] for at in range(2, k)] + [shared[c] for c in range(len(prior.root_mean) - k)],
            controls=[*data.predictors[:, 2:].T],
            log_exposure=np.log(data.exposure),
        )
        if data.spec.likelihood == "poisson":
            pm.Poisson("units", pt.exp(log_mean), observed=data.total)
        else:
            _negative_binomial(data, pt.exp(log_mean))
    return model


def _negative_binomial(data: CountData, mean: Any) -> None:
    """Totals of cells, and how they fell on the rows."""
    size = pm.HalfNormal("overdispersion", OVERDISPERSION_SCALE) ** -2.0
    sizes = data.rows * size
    pm.NegativeBinomial("units", mu=data.rows * mean, alpha=sizes, observed=data.total)
    rows = (data.count_rows * (pt.gammaln(data.counts + size) - pt.gammaln(size))).sum()
    totals = (pt.gammaln(data.total + sizes) - pt.gammaln(sizes)).sum()
    pm.Potential("rows_given_totals", rows - totals)


def _hierarchy(data: TreeData, prior: TreePrior, non_centred: Collection[str] = ()) -> tuple[Any, Any]:
    """Coefficients of the items, hung on their levels, hung on the population; and the shared ones."""
    k, tied = prior.layout.own, prior.layout.tied
    population = pm.Normal("population", prior.root_mean[:k], prior.root_sd[:k])
    shared = pm.Normal("shared", prior.root_mean[k + tied :], prior.root_sd[k + tied :])
    above = population[None, :]
    for at in range(len(data.level_names) - 1, -1, -1):
        level = data.level_names[at]
        factor = _covariance_factor(level, prior, at)
        member = data.membership[at]
        if level in non_centred:
            offset = pm.Normal(f"{level}_offset", shape=(len(member), k))
            above = pm.Deterministic(level, above[member] + offset @ factor.T)
        else:
            above = pm.MvNormal(level, mu=above[member], chol=factor, shape=(len(member), k))
    if tied:
        sd = pm.HalfNormal("sd_other_prices", prior.between_sd[0, k])
        offset = pm.Normal("other_prices", 0.0, sd, shape=(len(data.gram.items), tied))
        above = pt.concatenate([above, offset], axis=1)
    return above, shared


def _covariance_factor(level: str, prior: TreePrior, at: int) -> Any:
    """Cholesky factor diag(sd) R of a level's covariance: half-normal sds, LKJ correlations by partial correlations."""
    k, correlated = prior.layout.own, prior.layout.correlated
    sd = pm.HalfNormal(f"sd_{level}", prior.between_sd[at, :k], shape=k)
    exponent = prior.concentration + 0.5 * (correlated - 2)
    shape = np.array([exponent - 0.5 * column for row in range(correlated) for column in range(row)])
    partial = 2.0 * pm.Beta(f"partial_{level}", shape, shape) - 1.0
    lines = []
    used = 0
    for row in range(k):
        rest = pt.constant(1.0)
        entries = []
        for _ in range(row):
            entries.append(partial[used] * rest if row < correlated else pt.constant(0.0))
            if row < correlated:
                rest = rest * pt.sqrt(1.0 - partial[used] ** 2)
                used += 1
        entries += [rest, *[pt.constant(0.0)] * (k - row - 1)]
        lines.append(pt.stack(entries))
    return sd[:, None] * pt.stack(lines)


def _noise_sd(data: TreeData, prior: TreePrior) -> Any:
    """Residual sd of every item."""
    noise = pm.HalfNormal("noise_sd", prior.noise_scale, shape=len(data.noise_groups))
    typical = noise[data.noise_group]
    if data.spec.noise_by != "item":
        return typical
    spread = pm.HalfNormal("noise_spread", prior.noise_spread_scale)
    return pm.LogNormal("item_noise_sd", pt.log(typical), spread, shape=len(data.gram.items))
