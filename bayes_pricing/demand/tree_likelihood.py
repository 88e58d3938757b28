"""Log likelihood of the sales under draws of the Gaussian tree, from the items' Gram statistics."""

from __future__ import annotations

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.tree_posterior import TreePosterior

ITEMS_AT_ONCE = 500


def sales_log_likelihood(posterior: TreePosterior) -> Floats:
    r"""Log likelihood of all log units under each draw of coefficients and noise, (chain * draw,), constants aside.

    .. math:: \sum_i -n_i \log \sigma_i - \frac{y_i'y_i - 2 b_i'X_i'y_i + b_i'X_i'X_i b_i}{2 \sigma_i^2}

    No row is read: the cost depends on items. With autocorrelation it is that of the innovations.

    Parameters
    ----------
    posterior : TreePosterior
    """
    gram, names, k = posterior.data.gram, posterior.data.gram.items, posterior.kernel.k
    above = posterior.draws.states[:, :, -1, k:]
    shared = above.reshape(above.shape[0] * above.shape[1], above.shape[2])
    total = np.zeros(len(shared))
    for start in range(0, len(names), ITEMS_AT_ONCE):
        part = slice(start, min(start + ITEMS_AT_ONCE, len(names)))
        own, noise = posterior.own_draws(names[part])
        coefficients = np.concatenate([own, np.broadcast_to(shared, (len(own), *shared.shape))], axis=2)
        fitted = coefficients @ gram.xtx[part] - 2.0 * gram.xty[part, None]
        squares = np.maximum(gram.yty[part, None] + np.einsum("isa,isa->is", coefficients, fitted), 0.0)
        total -= (gram.count[part, None] * np.log(noise) + 0.5 * squares / noise**2).sum(axis=0)
    return total
