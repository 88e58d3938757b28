"""From a sales panel to what a demand model sees: leaves of the tree, columns of the equation, the specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import polars as pl

from bayes_pricing.data.items import item_table
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.attributes import add_attributes
from bayes_pricing.demand.censoring import count_sold_out
from bayes_pricing.demand.choice_of_model import (
    ModelChoice,
    QuantityFacts,
    choose_likelihood,
    quantity_facts,
    refuse_zeros_under_logs,
)
from bayes_pricing.demand.cross_prices import OtherPrices, add_other_prices
from bayes_pricing.demand.identification import check_identified
from bayes_pricing.demand.spec import (
    CROSS_PRICE,
    PRICE_CURVE,
    UNCENTRED,
    Correlated,
    DemandSpec,
    Likelihood,
    NoiseBy,
    Priors,
)
from bayes_pricing.demand.steepness import compare_steepness, steepness_findings
from bayes_pricing.demand.terms import TermRequest, add_terms, price_curve_column
from bayes_pricing.errors import Finding, Refusal

ROWS_FOR_NOISE_BY_ITEM = 30
EVERYTHING = "all items"
Autocorrelation = Literal["auto", "off"]
Model = Literal["auto", "lognormal", "student-t", "poisson", "negative-binomial"]
LIKELIHOODS: Mapping[str, Likelihood] = {
    "lognormal": "lognormal",
    "student-t": "lognormal",
    "poisson": "poisson",
    "negative-binomial": "negative_binomial",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What the user asks of a fit; everything not asked for is chosen from the data and named.

    Attributes
    ----------
    model : str
        ``auto`` or a likelihood.
    noise_by : str or None
        ``common``, ``category`` or ``item``; None chooses by how many rows the items have.
    randomised_price : bool
        Whether prices were set by chance, so that differences between items may be read as the effect of price.
    cross_prices : bool
        Give every item a cross-price elasticity with every other item of its (innermost) category.
    correlated : str
        Which coefficients of one item correlate: ``all``, or only level and own price (``price``).
    terms : TermRequest
        Season, trend and stocking up.
    autocorrelation : str
        ``auto`` models first-order autocorrelation of log-normal residuals where it is there, ``off`` only names it.
    priors : Priors

    Examples
    --------
    >>> ModelRequest().model
    'auto'
    """

    model: Model = "auto"
    noise_by: NoiseBy | None = None
    randomised_price: bool = False
    cross_prices: bool = False
    correlated: Correlated = "all"
    terms: TermRequest = field(default_factory=TermRequest)
    autocorrelation: Autocorrelation = "auto"
    priors: Priors = field(default_factory=Priors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """What is fitted: rows in the model's terms, the specification, and what was decided on the way.

    Attributes
    ----------
    spec : DemandSpec
    frame : LazyFrame
        Columns ``item``, the levels, ``price``, ``quantity``, and where they exist ``period``, ``exposure`` and the
        controls.
    items : DataFrame
        The item table (see `SalesPanel.item_table`).
    choice : ModelChoice
        The likelihood and why.
    findings : tuple of Finding
    autocorrelation : str
        Whether to model it where it is there (``auto``) or only to name it (``off``).
    """

    spec: DemandSpec
    frame: pl.LazyFrame
    items: pl.DataFrame
    choice: ModelChoice
    findings: tuple[Finding, ...]
    autocorrelation: Autocorrelation = "auto"


def build_design(panel: SalesPanel, request: ModelRequest) -> Design:
    """Decide leaves, columns and likelihood for a panel.

    A region makes one leaf of every item and region, hung below its item. Competitor prices enter as logs, so that
    their coefficient is a cross-price elasticity. With a randomised price and no variation inside any item, items of
    one category are taken as one.

    The steepness of a saturating elasticity is chosen here, by one pass over the rows.

    Raises
    ------
    Refusal
        If the data cannot identify a price elasticity, or the likelihood asked for cannot hold.
    """
    instrumented = bool(panel.roles.instruments)
    check_identified(panel, randomised_price=request.randomised_price, has_instrument=instrumented)
    leaves, roles, findings = _leaves(panel, request)
    facts = quantity_facts(leaves)
    automatic = request.model == "auto"
    if instrumented:
        request = _under_logs(request, roles, facts)
    choice = _choice(request, choose_likelihood(facts) if request.model == "auto" else None, facts_of=facts)
    if instrumented and automatic:
        choice = replace(choice, reason="prices have instruments, and the joint model of price and sales is log-normal")
    refuse_zeros_under_logs(choice.likelihood, facts)
    if request.terms.curve == "saturating":
        _refuse_saturating(request, choice.likelihood, count_sold_out(leaves))
    category = panel.roles.levels[0] if panel.roles.levels else None
    terms = add_terms(leaves, roles, request.terms, category=category)
    leaves, findings = terms.frame, [*findings, *terms.findings]
    own, shared = (*roles.controls, *terms.controls), (*roles.shared_controls, *terms.shared_controls)
    roles = replace(roles, controls=own, shared_controls=shared)
    others = _others(panel, leaves, roles) if request.cross_prices else None
    if others is not None:
        leaves, roles = others.frame, replace(roles, controls=(*roles.controls, CROSS_PRICE))
        findings = [*findings, *others.findings]
    attributes = None
    if roles.attributes:
        attributes = add_attributes(leaves, roles.attributes)
        leaves = attributes.frame
    spec = DemandSpec(
        likelihood=choice.likelihood,
        levels=roles.levels,
        controls=roles.controls,
        shared_controls=roles.shared_controls,
        attributes=() if attributes is None else attributes.names,
        correlated=request.correlated,
        cross_prices=None if others is None else category or "population",
        others=0 if others is None else others.count,
        errors="student_t" if request.model == "student-t" else "gaussian",
        priors=request.priors,
    )
    items = item_table(leaves, replace(roles, controls=(*roles.controls, *spec.deviations)))
    items = items.with_columns(pl.lit(0.0).alias(f"mean_{name}") for name in UNCENTRED if name in spec.controls)
    if others is not None:
        items = items.join(others.table, on="item", maintain_order="left")
    if attributes is not None:
        items = items.join(attributes.table, on="item", maintain_order="left")
    spec = replace(spec, noise_by=request.noise_by or _noise_by(items, roles.levels))
    if request.terms.curve == "saturating":
        likelihood = compare_steepness(log_rows(leaves), items, spec)
        spec = replace(spec, steepness=max(likelihood, key=likelihood.__getitem__))
        away = pl.col("price").log() - pl.col("price").log().mean().over("item")
        leaves = leaves.with_columns(price_curve_column(away, spec.steepness).alias(PRICE_CURVE))
        findings = [*findings, *steepness_findings(likelihood)]
    return Design(
        spec=spec,
        frame=leaves,
        items=items,
        choice=choice,
        findings=tuple(findings),
        autocorrelation=request.autocorrelation,
    )


def log_rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with log price and log units per unit of exposure."""
    exposure = pl.col("exposure").log() if "exposure" in frame.collect_schema().names() else pl.lit(0.0)
    log_units = pl.col("quantity").log() - exposure
    return frame.with_columns(pl.col("price").log().alias("log_price"), log_units.alias("log_units"))


def _refuse_saturating(request: ModelRequest, likelihood: Likelihood, sold_out: int) -> None:
    """Refuse a saturating curve where a model without the Gaussian tree's marginal likelihood is asked for."""
    reasons = {
        f"{sold_out} rows that ran out": sold_out > 0,
        "--model student-t": request.model == "student-t",
        f"a {likelihood.replace('_', ' ')} model": likelihood != "lognormal",
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        message = "--price-curve saturating stands in the log-normal model of weeks that did not run out, "
        message += f"and not with {found[0]}"
        remedy = "say --price-curve quadratic, or fit the rows that did not run out with --model lognormal"
        raise Refusal([Finding(code="term_needs_lognormal", severity="error", message=message, remedy=remedy)])


def _others(panel: SalesPanel, leaves: pl.LazyFrame, roles: ColumnRoles) -> OtherPrices:
    """Prices of the other items of every row's category."""
    product = "item" if panel.roles.region is None else roles.levels[0]
    return add_other_prices(leaves, product, panel.roles.levels[0] if panel.roles.levels else None)


def _choice(request: ModelRequest, automatic: ModelChoice | None, facts_of: QuantityFacts) -> ModelChoice:
    """The automatic choice, or the user's own with the same facts beside it."""
    if automatic is not None:
        return automatic
    return ModelChoice(
        likelihood=LIKELIHOODS[request.model],
        reason="asked for",
        alternatives=(),
        zero_share=facts_of.zero_share,
        mean_quantity=facts_of.mean,
        dispersion=facts_of.dispersion,
    )


def _leaves(panel: SalesPanel, request: ModelRequest) -> tuple[pl.LazyFrame, ColumnRoles, list[Finding]]:
    """Rows with their leaf as ``item``, the roles that fit them, and what was changed on the way."""
    frame, roles = panel.frame, panel.roles
    findings: list[Finding] = []
    if roles.competitor_prices:
        logs = {f"log_{name}": pl.col(name).log() for name in roles.competitor_prices}
        frame = frame.with_columns(**logs)
        roles = replace(roles, controls=(*roles.controls, *logs), competitor_prices=())
    if roles.region is not None:
        level = roles.item if roles.item not in ("item", *roles.levels) else "product"
        leaf = pl.concat_str("item", pl.lit(" @ "), "region")
        frame = frame.with_columns(leaf.alias("item"), pl.col("item").alias(level))
        roles = replace(roles, item="item", region=None, levels=(level, *roles.levels))
    if (request.randomised_price or roles.instruments) and _never_varies(frame):
        group = pl.col(roles.levels[0]) if roles.levels else pl.lit(EVERYTHING)
        frame = frame.with_columns(group.alias("item"))
        roles = replace(roles, item="item", levels=roles.levels[1:])
        findings.append(_items_pooled(panel.roles))
    return frame, roles, findings


def _never_varies(frame: pl.LazyFrame) -> bool:
    """Whether no item was ever seen at two prices."""
    most = frame.group_by("item").agg(pl.col("price").n_unique()).select(pl.col("price").max())
    return int(most.collect(engine="streaming").item()) < 2


def _noise_by(items: pl.DataFrame, levels: tuple[str, ...]) -> NoiseBy:
    """By item where items have rows enough to show their own noise, else by category where there is one."""
    median = items["rows"].median()
    if isinstance(median, float) and median >= ROWS_FOR_NOISE_BY_ITEM:
        return "item"
    return "category" if levels else "common"


def _items_pooled(roles: ColumnRoles) -> Finding:
    unit = f"{roles.levels[0]!r}" if roles.levels else "the whole table"
    return Finding(
        code="items_pooled",
        severity="info",
        message=f"no item was seen at two prices; prices are declared randomised or have instruments, so items of one "
        f"{unit} count as one",
        remedy="vary the price of each item to learn about items apart",
    )


def _under_logs(request: ModelRequest, roles: ColumnRoles, facts: QuantityFacts) -> ModelRequest:
    """The request with a log-normal model, which is what the joint model of price and sales is written for.

    Raises
    ------
    Refusal
        If counts or terms it does not have were asked for, or a row sold nothing.
    """
    refuse_zeros_under_logs("lognormal", facts)
    beside = {
        "--cross-prices": request.cross_prices,
        "--correlated": request.correlated != "all",
        "--attribute": bool(roles.attributes),
        "--drift": request.terms.drift,
        "--price-curve": request.terms.curve != "constant",
    }
    asked = " and ".join(flag for flag, there in beside.items() if there)
    if asked:
        message = f"{asked} asked for with instruments: what is made of prices would need instruments of its own, "
        message += "and the joint model of price and sales has full correlations"
        remedy = f"leave {asked} out with --instrument"
        raise Refusal([Finding(code="terms_not_with_instruments", severity="error", message=message, remedy=remedy)])
    if request.model not in ("auto", "lognormal"):
        message = (
            f"--model {request.model} was asked for with instruments; the joint model of price and sales is log-normal"
        )
        remedy = "say --model lognormal, or leave --instrument out and read the elasticities as associations"
        raise Refusal([Finding(code="instruments_need_logs", severity="error", message=message, remedy=remedy)])
    return replace(request, model="lognormal")
