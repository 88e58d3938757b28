"""R-hat and effective sample sizes of many parameters at once; the numbers are ArviZ's, parameter by parameter."""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import rankdata

from bayes_pricing.data.gram import Floats

COLUMNS_AT_ONCE = 128
TAILS = (0.05, 0.95)


def convergence(draws: Floats) -> tuple[Floats, Floats, Floats]:
    """Rank-normalised R-hat, bulk and tail effective sample size of every parameter.

    Parameters
    ----------
    draws : array (chain, draw, parameter)
        At least two chains of four draws.

    Returns
    -------
    three arrays (parameter,)
        Not a number where a draw is not, and R-hat also where draws never change.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and localization",
    Bayesian Analysis 16(2).

    Examples
    --------
    >>> rhat, bulk, tail = convergence(np.random.default_rng(1).normal(size=(4, 500, 2)))
    >>> bool((rhat < 1.01).all() and (bulk > 1500).all() and (tail > 1200).all())
    True
    """
    found = np.empty((3, draws.shape[2]))
    for at in range(0, draws.shape[2], COLUMNS_AT_ONCE):
        part = slice(at, at + COLUMNS_AT_ONCE)
        found[:, part] = _of_columns(np.asarray(draws[:, :, part], dtype=np.float64))
    return found[0], found[1], found[2]


def _of_columns(draws: Floats) -> tuple[Floats, Floats, Floats]:
    chains, length, columns = draws.shape
    if chains < 2 or length < 4:
        return np.full(columns, np.nan), np.full(columns, np.nan), np.full(columns, np.nan)
    split = _split(draws)
    normal = _normal_scores(split)
    folded = _normal_scores(np.abs(split - np.median(split, axis=(0, 1))))
    low, high = np.quantile(draws, TAILS, axis=(0, 1))
    tails = [_effective_size(_split((draws <= edge).astype(np.float64))) for edge in (low, high)]
    found = np.maximum(_rhat(normal), _rhat(folded)), _effective_size(normal), np.minimum(*tails)
    for values in found:
        values[np.isnan(draws).any(axis=(0, 1))] = np.nan
    return found


def _split(draws: Floats) -> Floats:
    """Both halves of every chain."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: Floats) -> Floats:
    """Normal quantiles of ranks among all chains (Blom 1958)."""
    flat = draws.reshape(-1, draws.shape[2])
    ranks = rankdata(flat, axis=0)
    return np.asarray(ndtri((ranks - 0.375) / (len(flat) + 0.25))).reshape(draws.shape)


def _rhat(draws: Floats) -> Floats:
    length = draws.shape[1]
    between = length * draws.mean(axis=1).var(axis=0, ddof=1)
    within = draws.var(axis=1, ddof=1).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a stuck chain comes out as NaN, and fails
        return np.asarray(np.sqrt((between / within + length - 1.0) / length), dtype=np.float64)


def _effective_size(draws: Floats) -> Floats:
    """Effective sample size of means, by Geyer's initial monotone sequence of the chains' common autocorrelations."""
    chains, length, columns = draws.shape
    means = draws.mean(axis=1)
    waves = rfft(draws - means[:, None], n=next_fast_len(2 * length, real=True), axis=1)
    power = (waves.real**2 + waves.imag**2).mean(axis=0)
    covariance = irfft(power, n=next_fast_len(2 * length, real=True), axis=0)[:length] / length
    variance = covariance[0] * length / (length - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (variance - covariance) / (covariance[0] + means.var(axis=0, ddof=1))
    constant = np.ptp(draws, axis=(0, 1)) < np.finfo(float).resolution
    total = chains * length
    return np.array(
        [total if constant[at] else total / _autocorrelation_time(rho[:, at], total) for at in range(columns)],
        dtype=np.float64,
    )


def _autocorrelation_time(rho: Floats, total: int) -> float:
    """Sum of autocorrelations over all lags, as far as sums of neighbours stay positive and made to fall."""
    if np.isnan(rho).any():
        return math.nan
    kept, at, even, odd = [1.0, float(rho[1])], 1, 1.0, float(rho[1])
    while at < len(rho) - 3 and even + odd > 0.0:
        even, odd = float(rho[at + 1]), float(rho[at + 2])
        kept += [even, odd] if even + odd >= 0.0 else [0.0, 0.0]
        at += 2
    last = at - 2
    kept += [0.0, 0.0]
    if even > 0.0:
        kept[last + 1] = even
    for lag in range(1, last - 1, 2):
        if kept[lag + 1] + kept[lag + 2] > kept[lag - 1] + kept[lag]:
            kept[lag + 1] = kept[lag + 2] = (kept[lag - 1] + kept[lag]) / 2.0
    time = -1.0 + 2.0 * sum(kept[: last + 1]) + kept[last + 1]
    return max(time, 1.0 / math.log10(total))
