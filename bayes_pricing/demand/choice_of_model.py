"""Which family suits the data, and why: named rules on zeros, whole numbers, size and dispersion, and scores by LOO."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from bayes_pricing.demand.spec import Likelihood
from bayes_pricing.errors import Finding, Refusal

SMALL_COUNT = 15.0
POISSON_DISPERSION = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """How well one model predicts rows that were left out (leave-one-out by importance sampling, PSIS-LOO).

    Attributes
    ----------
    model : str
        As ``--model`` takes it.
    elpd : float or None
        Expected log predictive density of all rows; None where the model was refused. Counts and log-normal sales stand
        on one footing: of whole units the log-normal's is the probability of the unit around each.
    difference : float or None
        Less that of the best model: zero or negative.
    standard_error : float or None
        Of the difference.
    effective_parameters : float or None
        What the fit itself gains on the rows it saw.
    largest_pareto_k, rough_share : float or None
        Largest Pareto k of the rows looked at, and the share of them with a k over 0.7: more than a few make it rough.
    refused : str
        Why the model has no score; empty where it has one.
    """

    model: str
    elpd: float | None = None
    difference: float | None = None
    standard_error: float | None = None
    effective_parameters: float | None = None
    largest_pareto_k: float | None = None
    rough_share: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """The likelihood that was chosen, the reason, and what else would have been possible.

    Attributes
    ----------
    likelihood : str
    reason : str
        One sentence.
    alternatives : tuple of str
        Likelihoods that the data allow and that were not chosen; ``student_t`` is the log-normal with heavy tails.
    zero_share : float in [0, 1]
        Rows that sold nothing.
    mean_quantity : float
        Units per row.
    dispersion : float or None
        Variance over mean of units within an item at one price, weighted by the mean; 1 under a Poisson law, None
        where no item was seen twice at one price.
    scores : tuple of ModelScore
        The models compared by LOO, best first; empty where that was not asked for.
    """

    likelihood: Likelihood
    reason: str
    alternatives: tuple[str, ...]
    zero_share: float
    mean_quantity: float
    dispersion: float | None
    scores: tuple[ModelScore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityFacts:
    """What the choice rests on: shares and moments of the units sold."""

    rows: int
    zero_share: float
    mean: float
    whole: bool
    dispersion: float | None


def quantity_facts(frame: pl.LazyFrame) -> QuantityFacts:
    r"""Zeros, size, wholeness and dispersion of the units sold, in two aggregate passes.

    .. math:: \text{dispersion} = \sum_{c} \frac{S_c}{\sum_c (n_c - 1) \bar q_c}

    over cells `c` of one item at one price with at least two rows, `S_c` the sum of squares around the cell's mean.

    Parameters
    ----------
    frame : LazyFrame
        Columns ``item, price, quantity``.

    Examples
    --------
    >>> sales = pl.LazyFrame({"item": ["a"] * 4, "price": [1.0] * 4, "quantity": [0.0, 2.0, 1.0, 1.0]})
    >>> facts = quantity_facts(sales)
    >>> facts.zero_share, facts.whole, round(facts.dispersion, 3)
    (0.25, True, 0.667)
    """
    quantity = pl.col("quantity")
    cells = frame.group_by("item", "price").agg(
        pl.len().alias("n"),
        quantity.sum().alias("total"),
        (quantity**2).sum().alias("squares"),
        (quantity == 0).sum().alias("zeros"),
        (quantity == quantity.round()).all().alias("whole"),
    )
    spread = pl.col("squares") - pl.col("total") ** 2 / pl.col("n")
    repeated = pl.col("n") >= 2
    row = cells.select(
        pl.col("n").sum(),
        pl.col("zeros").sum(),
        pl.col("total").sum(),
        pl.col("whole").all(),
        spread.filter(repeated).sum().alias("spread"),
        ((pl.col("n") - 1) * pl.col("total") / pl.col("n")).filter(repeated).sum().alias("expected"),
    ).collect(engine="streaming")
    rows, zeros, total, whole, around, expected = row.row(0)
    return QuantityFacts(
        rows=rows,
        zero_share=zeros / rows,
        mean=total / rows,
        whole=whole,
        dispersion=around / expected if expected > 0 else None,
    )


def choose_likelihood(facts: QuantityFacts) -> ModelChoice:
    """Choose the likelihood from facts about the units sold.

    Raises
    ------
    Refusal
        If units are fractions and some rows sold nothing: neither a log nor a count model holds.
    """
    zeros = f"{facts.zero_share:.0%} of rows sold nothing" if facts.zero_share > 0 else "every row sold something"
    if not facts.whole:
        if facts.zero_share > 0:
            raise Refusal([_zeros_finding(facts.zero_share, fractions=True)])
        return _choice("lognormal", "units are not whole numbers and every row sold something", facts)
    if facts.zero_share == 0 and facts.mean >= SMALL_COUNT:
        reason = f"{zeros} and a row sells {facts.mean:.0f} units on average, so log units are well behaved"
        return _choice("lognormal", reason, facts)
    size = f"{zeros} and a row sells {facts.mean:.2g} units on average: these are counts"
    if facts.dispersion is None:
        reason = f"{size}, and no price was repeated so that extra variance cannot be ruled out"
        return _choice("negative_binomial", reason, facts)
    if facts.dispersion <= POISSON_DISPERSION:
        reason = f"{size}, and their variance is {facts.dispersion:.2f} times their mean at one price"
        return _choice("poisson", reason, facts)
    reason = f"{size} whose variance is {facts.dispersion:.1f} times their mean at one price"
    return _choice("negative_binomial", reason, facts)


def possible_models(facts: QuantityFacts) -> tuple[str, ...]:
    """Models that have a probability for such units: counts need whole ones, logs need every row to sell.

    Examples
    --------
    >>> possible_models(QuantityFacts(rows=10, zero_share=0.1, mean=2.0, whole=True, dispersion=1.0))
    ('negative_binomial', 'poisson')
    """
    counts = ("negative_binomial", "poisson") if facts.whole else ()
    return (*counts, *(("lognormal", "student_t") if facts.zero_share == 0 else ()))


def refuse_zeros_under_logs(likelihood: Likelihood, facts: QuantityFacts) -> None:
    """Refuse a log-normal fit of sales with zeros.

    Raises
    ------
    Refusal
        If `likelihood` is log-normal and a row sold nothing.
    """
    if likelihood == "lognormal" and facts.zero_share > 0:
        raise Refusal([_zeros_finding(facts.zero_share, fractions=not facts.whole)])


def _zeros_finding(share: float, *, fractions: bool) -> Finding:
    remedy = (
        "aggregate to longer periods until every row sells something, or record whole units and fit a count model"
        if fractions
        else "fit a count model, --model poisson or --model negative-binomial (--model auto chooses)"
    )
    return Finding(
        code="zeros_under_log_model",
        severity="error",
        message=f"{share:.1%} of rows sold nothing and the logarithm of zero does not exist",
        remedy=remedy,
    )


def _choice(likelihood: Likelihood, reason: str, facts: QuantityFacts) -> ModelChoice:
    return ModelChoice(
        likelihood=likelihood,
        reason=reason,
        alternatives=tuple(name for name in possible_models(facts) if name != likelihood),
        zero_share=facts.zero_share,
        mean_quantity=facts.mean,
        dispersion=facts.dispersion,
    )
