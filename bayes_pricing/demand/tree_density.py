"""Compiled log density of the Gaussian tree's variance components and noise: likelihood, priors and the gradient."""

from __future__ import annotations

import math

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.tree_kernels import Scales, Tree, Work, marginal, marginal_gradient

SMALLEST = 1e-10


@inner
def fill_scales(theta: Floats, k: int, scales: Scales, work: Work) -> int:
    """Signed standard deviations and Cholesky factors of every level from `theta`; return how much of it was read."""
    levels, own = work.sd.shape[0], k - scales.tied
    at = 0
    for level in range(levels):
        for a in range(own):
            work.sd[level, a] = scales.sd[level, a] * theta[at + a]
        at += own
        for a in range(k):
            rest = 1.0
            for b in range(a):
                work.corr[level, a, b] = 0.0
                if a < scales.correlated:
                    y = theta[at]
                    at += 1
                    work.corr[level, a, b] = math.tanh(y) * rest
                    rest /= math.cosh(y)
            work.corr[level, a, a] = rest
    if scales.tied > 0:
        for a in range(own, k):
            work.sd[0, a] = scales.sd[0, a] * theta[at]
            for level in range(1, levels):
                work.sd[level, a] = 0.0
        at += 1
    for level in range(levels):
        for a in range(k):
            for b in range(a + 1):
                work.chol[level, a, b] = work.sd[level, a] * work.corr[level, a, b]
    return at


@inner
def fill_components(theta: Floats, tree: Tree, scales: Scales, work: Work) -> int:
    """What :func:`fill_scales` does, and the items' log noise sds where `theta` holds noise groups behind it."""
    at: int = fill_scales(theta, tree.k, scales, work)
    if theta.shape[0] > at:
        for item in range(tree.xty.shape[0]):
            work.log_noise[item] = theta[at + tree.noise_group[item]]
    return at


@inner
def scales_prior(theta: Floats, tree: Tree, scales: Scales, work: Work, gradient: Floats) -> float:
    """Log prior of signed sds (normal) and partial correlations (LKJ with Jacobian); write the whole gradient."""
    k, correlated = tree.k, scales.correlated
    own, tied = k - scales.tied, 0.0
    total = 0.0
    at = 0
    for level in range(work.sd.shape[0]):
        H = _correlation_score(work.corr[level], work.moment[level], k, work)
        for a in range(k):
            s = 0.0
            for b in range(a + 1):
                s += H[a, b] * work.corr[level, a, b]
            if a < own:
                # at zero the slope is a ratio of two vanishing numbers; that far in, rounding is all there is of it
                x = theta[at + a]
                total -= 0.5 * x * x
                gradient[at + a] = s / x - x if abs(x) > SMALLEST else -x
            elif level == 0:
                tied += s
        at += own
        for a in range(correlated):
            total += _partials_row(theta, gradient, at, a, correlated, H, scales.concentration, work)
            at += a
    if scales.tied > 0:
        x = theta[at]
        total -= 0.5 * x * x
        gradient[at] = tied / x - x if abs(x) > SMALLEST else -x
    return total


@inner
def _correlation_score(R, K, k, work):  # type: ignore[no-untyped-def]
    """Solve R'H = K: the gradient with respect to the Cholesky factor of the correlation matrix."""
    H = work.square[0]
    for b in range(k):
        for a in range(k - 1, -1, -1):
            s = K[a, b]
            for c in range(a + 1, k):
                s -= R[c, a] * H[c, b]
            H[a, b] = s / R[a, a]
    return H


@inner
def _partials_row(theta, gradient, at, a, k, H, concentration, work):  # type: ignore[no-untyped-def]
    """Log prior and gradient of one row of canonical partial correlations, tanh(theta); backwards through the row."""
    rest, z, total = work.line[2], work.line[3], 0.0
    remaining = 1.0
    for b in range(a):
        rest[b] = remaining
        z[b] = math.tanh(theta[at + b])
        sech = 1.0 / math.cosh(theta[at + b])
        remaining *= sech
        total += 2.0 * (concentration + 0.5 * (k - 2 - b)) * math.log(sech)
    push = H[a, a]
    for b in range(a - 1, -1, -1):
        sech = 1.0 / math.cosh(theta[at + b])
        through = H[a, b] * rest[b] * sech * sech - push * rest[b] * z[b] * sech
        gradient[at + b] = through - 2.0 * (concentration + 0.5 * (k - 2 - b)) * z[b]
        push = H[a, b] * z[b] + push * sech
    return total


@entry
def log_posterior(theta: Floats, tree: Tree, scales: Scales, work: Work, gradient: Floats) -> float:
    """Log density (up to a constant) of the unconstrained hyper-parameters and its gradient, written into `gradient`.

    `theta` holds, level by level from the items up, signed sds in units of their prior scale and the partial
    correlations (atanh) of the coefficients that correlate, then the one sd of the tied coefficients if there are any,
    then one log noise sd per noise group; without the latter `work.log_noise` is taken as given (noise by item). A
    half-normal sd is a normal number whose sign is dropped: flipping the signs of an sd and of its correlations changes
    nothing, and in these coordinates there is neither a funnel near zero nor a wall far out.
    """
    at = fill_components(theta, tree, scales, work)
    groups = theta.shape[0] - at
    total = marginal(tree, scales, work)
    marginal_gradient(tree, scales, work, gradient[at:])
    total += scales_prior(theta, tree, scales, work, gradient)
    for group in range(groups):
        ratio = math.exp(theta[at + group]) / scales.noise
        total += theta[at + group] - 0.5 * ratio * ratio
        gradient[at + group] += 1.0 - ratio * ratio
    return float(total)
