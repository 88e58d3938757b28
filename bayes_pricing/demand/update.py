"""A new week of sales moves the posterior without a refit, or says that a refit is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.gaussian_tree import kernel_tree
from bayes_pricing.demand.tree_draws import draw_uppers
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_kernels import Tree, new_work
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_quadrature import integrate_noise, redraw_noise
from bayes_pricing.demand.tree_sampling import TreeDraws
from bayes_pricing.errors import Finding, Refusal, SpecError

PARETO_LIMIT = 0.7


def update_week(posterior: TreePosterior, new_gram: Gram) -> TreePosterior:
    r"""Posterior after more rows of the same items, without sampling anew.

    Given hyper-parameters the update is exact: Gram statistics add. The hyper-draws are reweighted by the ratio of
    marginal likelihoods

    .. math:: w_d \propto \frac{p(y_\text{old}, y_\text{new} \mid \theta_d)}{p(y_\text{old} \mid \theta_d)},

    Pareto-smoothed, and resampled; what is above the items is then drawn again. With noise by item each draw carries
    what is above the items along, every item's noise and coefficients are integrated out of the ratio by quadrature,
    and the noises are drawn again.

    Parameters
    ----------
    posterior : TreePosterior
    new_gram : Gram
        Statistics of the new rows only, for some or all items, centred on the fit's frozen centres.

    Returns
    -------
    TreePosterior
        As many draws as before; its item table is unchanged.

    Raises
    ------
    Refusal
        If the new rows move the hyper-parameters too far for reweighting (Pareto k over 0.7): fit again.
    SpecError
        If the new statistics have unknown items, other columns or other centres, or the model has autocorrelation.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto smoothed importance sampling", JMLR 25.
    """
    if posterior.spec.autocorrelation:
        raise SpecError("Residuals follow their own past in this model, so new rows do not simply add; fit again.")
    gram = add_gram(posterior.data.gram, new_gram)
    data = replace(posterior.data, gram=gram)
    tree = kernel_tree(data, gram, posterior.prior.root_mean)
    flat = _flatten(posterior.draws)
    ratios = _log_ratios(posterior, tree, flat)
    picked = _resample(ratios, posterior.seed)
    flat = {name: values[picked] for name, values in flat.items()}
    draws = _redraw(posterior, tree, flat, _item_factors(posterior)[picked])
    return build_tree_posterior(data, posterior.prior, draws, posterior.items, seed=posterior.seed)


def add_gram(gram: Gram, new: Gram) -> Gram:
    """Sum of two sets of Gram statistics; the second may lack items, and must share columns and centres.

    Examples
    --------
    >>> one = Gram(items=("a", "b"), columns=("level",), count=np.array([2.0, 3.0]), xtx=np.ones((2, 1, 1)),
    ...            xty=np.ones((2, 1)), yty=np.ones(2), centre=np.zeros((2, 1)))
    >>> more = Gram(items=("b",), columns=("level",), count=np.array([1.0]), xtx=np.ones((1, 1, 1)),
    ...             xty=np.ones((1, 1)), yty=np.ones(1), centre=np.zeros((1, 1)))
    >>> add_gram(one, more).count.tolist()
    [2.0, 4.0]
    """
    if new.columns != gram.columns:
        raise SpecError(f"New rows have columns {new.columns}, the fit {gram.columns}; gather them the same way.")
    position = {name: at for at, name in enumerate(gram.items)}
    unknown = [name for name in new.items if name not in position]
    if unknown:
        raise SpecError(f"{len(unknown)} items were not in the fit, e.g. {unknown[:3]}; fit again to take them in.")
    at = np.array([position[name] for name in new.items], dtype=np.int64)
    moved = ~np.isclose(new.centre, gram.centre[at], rtol=1e-9, atol=1e-12).all(axis=1)
    if moved.any():
        names = [new.items[row] for row in np.flatnonzero(moved)[:3]]
        raise SpecError(f"New rows of {names} are centred elsewhere than the fit; centre them on the fit's centres.")

    def plus(total: Floats, more: Floats) -> Floats:
        summed = total.copy()
        np.add.at(summed, at, more)
        return summed

    return replace(
        gram,
        count=plus(gram.count, new.count),
        xtx=plus(gram.xtx, new.xtx),
        xty=plus(gram.xty, new.xty),
        yty=plus(gram.yty, new.yty),
    )


def _flatten(draws: TreeDraws) -> dict[str, NDArray[Any]]:
    """Draws with chains laid end to end."""
    parts: dict[str, NDArray[Any]] = {"theta": draws.theta, "log_noise": draws.log_noise, "states": draws.states}
    if draws.log_spread is not None and draws.item_log_noise is not None:
        parts |= {"log_spread": draws.log_spread, "item_log_noise": draws.item_log_noise}
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in parts.items()}


def _log_ratios(posterior: TreePosterior, tree: Tree, flat: dict[str, NDArray[Any]]) -> Floats:
    """Log marginal likelihood with the new rows less that without, for every draw."""
    logs = [np.zeros(len(flat["theta"])) for _ in range(2)]
    factor = _item_factors(posterior)
    for rows, out in zip((tree, posterior.kernel), logs, strict=True):
        if "item_log_noise" in flat:
            states = flat["states"] - posterior.prior.root_mean
            typical, spread, start = flat["log_noise"], flat["log_spread"], flat["item_log_noise"]
            integrate_noise(factor, typical, spread, start, states, rows, out)
        else:
            _upper_states(posterior, rows, flat, out)
    return logs[0] - logs[1]


def _item_factors(posterior: TreePosterior) -> Floats:
    """Cholesky factors of the items' covariance, draws first."""
    return np.ascontiguousarray(np.moveaxis(posterior.item_factor, -1, 0))


def _upper_states(posterior: TreePosterior, tree: Tree, flat: dict[str, NDArray[Any]], logs: Floats) -> Floats:
    """One joint draw above the items for every hyper-draw (less the prior mean), and log marginal likelihoods."""
    theta: NDArray[Any] = posterior.prior.layout.signed(flat["theta"], posterior.prior.between_sd)
    log_noise: NDArray[Any] = np.zeros((0, 0), dtype=np.float32)
    if "item_log_noise" in flat:
        log_noise = flat["item_log_noise"]
    else:
        theta = np.concatenate([theta, flat["log_noise"]], axis=1)
    states = np.zeros_like(flat["states"])
    draw_uppers(posterior.seed, theta, log_noise, tree, posterior.prior.scales, new_work(tree), states, logs)
    return states


def _resample(log_ratios: Floats, seed: int) -> NDArray[np.int64]:
    """Systematic resampling with Pareto-smoothed weights; draws stay in order, so chains stay mostly themselves."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    log_weights, k = array_stats.psislw(log_ratios.max() - log_ratios)  # it takes log likelihoods to divide by
    if not float(k) <= PARETO_LIMIT:
        raise Refusal(
            [
                Finding(
                    code="refit_due",
                    severity="error",
                    message=f"the new rows move the model too far for an update (Pareto k {float(k):.2f}, limit 0.7)",
                    remedy="fit the model again with all rows",
                )
            ]
        )
    weights = np.exp(log_weights)
    edges = np.cumsum(weights / weights.sum())
    points = (np.arange(len(weights)) + np.random.default_rng([seed, 1]).random()) / len(weights)
    return np.minimum(np.searchsorted(edges, points), len(weights) - 1).astype(np.int64)


def _redraw(posterior: TreePosterior, tree: Tree, flat: dict[str, NDArray[Any]], factor: Floats) -> TreeDraws:
    """Noise by item and all that is above the items, drawn again given the new rows."""
    if "item_log_noise" in flat:
        states = flat["states"] - posterior.prior.root_mean
        flat = flat | {"item_log_noise": flat["item_log_noise"].copy()}
        noise, spread = flat["log_noise"], flat["log_spread"]
        redraw_noise(posterior.seed + 1, factor, noise, spread, states, tree, flat["item_log_noise"])
    states = _upper_states(posterior, tree, flat, np.zeros(len(flat["theta"])))
    return _replace_draws(posterior, flat | {"states": states + posterior.prior.root_mean})


def _replace_draws(posterior: TreePosterior, flat: dict[str, NDArray[Any]]) -> TreeDraws:
    """The posterior's draws with new values, chains apart again."""
    chains, draws = posterior.shape
    parts = {name: values.reshape(chains, draws, *values.shape[1:]) for name, values in flat.items()}
    return replace(
        posterior.draws,
        theta=parts["theta"],
        log_noise=parts["log_noise"],
        log_spread=parts.get("log_spread"),
        item_log_noise=parts.get("item_log_noise"),
        states=parts["states"],
    )
