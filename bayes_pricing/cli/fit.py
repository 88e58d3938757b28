"""`bayes-pricing fit`: sales in, demand posterior out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from bayes_pricing.cli.choice_flags import ChoiceFlags, FamilyRequest
from bayes_pricing.cli.flags import RoleFlags, SalesFlags, SamplerFlags, TermFlags
from bayes_pricing.cli.output import REFUSED, Answer, progress_bar

if TYPE_CHECKING:
    from bayes_pricing.demand.fit import DemandFit
    from bayes_pricing.errors import Finding


def fit(
    sales: SalesFlags,
    roles: RoleFlags | None = None,
    sampler: SamplerFlags | None = None,
    *,
    model: Literal[
        "auto", "lognormal", "student-t", "poisson", "negative-binomial", "choice-logit", "share-logit", "purchase"
    ] = "auto",
    noise_by: Literal["common", "category", "item"] | None = None,
    randomised_price: bool = False,
    compare_models: Annotated[bool, Parameter(negative=())] = False,
    terms: TermFlags | None = None,
    choice: ChoiceFlags | None = None,
    seed: int = 1,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Estimate how demand reacts to price: per item, per category and in the population, with intervals.

    Example: bayes-pricing fit --sales sales.csv --item sku --category family --quantity units --out model

    Parameters
    ----------
    model
        Likelihood; `auto` chooses from zeros, size and dispersion, and names its reason. `choice-logit` reads who chose
        what (--quantity is 1 where chosen), `share-logit` shares of markets (--quantity is the share, --region or
        --period the market), `purchase` offers (--quantity is how many took it, --exposure of how many).
    noise_by
        What shares one residual variance under a log-normal model; left out, items with 30 rows or more have their own.
    randomised_price
        Prices were set by chance: differences between items may be read as the effect of price.
    compare_models
        Fit every family that the data allow and score each by leave-one-out; `auto` then takes a clearly better one.
    seed
        Same seed, same answer.
    out
        New folder for the fitted model.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.cli.choice_families import fit_family
    from bayes_pricing.demand.design import ModelRequest
    from bayes_pricing.demand.fit import fit_demand
    from bayes_pricing.demand.model_comparison import fit_compared
    from bayes_pricing.demand.terms import TermRequest
    from bayes_pricing.errors import Refusal, SpecError
    from bayes_pricing.registry import save_fit
    from bayes_pricing.storage import require_free

    match model:
        case "choice-logit" | "share-logit" | "purchase":
            if terms is not None or noise_by is not None or compare_models:
                raise SpecError(f"--model {model} has no further terms: leave such flags out.")
            family = FamilyRequest(
                family=model,
                sales=sales,
                roles=roles or RoleFlags(),
                sampler=sampler or SamplerFlags(),
                flags=choice or ChoiceFlags(),
                randomised_price=randomised_price,
                seed=seed,
                out=out,
            )
            return fit_family(family)
    if choice is not None:
        raise SpecError(
            f"--model {model} reads none of --occasion, --chooser, --outside, --tastes, --taste, --unit-cost."
        )
    asked = terms or TermFlags()
    request = ModelRequest(
        model=model,
        noise_by=noise_by,
        randomised_price=randomised_price,
        cross_prices=asked.cross_prices,
        correlated=asked.correlated,
        autocorrelation=asked.autocorrelation,
        terms=TermRequest(
            season=asked.season,
            season_length=asked.season_length,
            trend=asked.trend,
            stockpiling=asked.stockpiling,
            drift=asked.drift,
            curve=asked.price_curve,
            months=asked.month_effects,
            holidays=asked.holiday,
            period_effects=asked.period_effects,
        ),
    )
    settings = (sampler or SamplerFlags()).settings()
    if out is not None:
        require_free(out)
    with progress_bar() as progress:
        panel = sales.panel(roles or RoleFlags())
        try:
            fitter = fit_compared if compare_models else fit_demand
            fitted = fitter(panel, request, settings, seed=seed, progress=progress)
        except Refusal as refusal:
            return refused_before_sampling(refusal.findings)
    if not fitted.diagnostics.passed:
        return refused_fit(fitted)
    if out is not None:
        save_fit(fitted, out)
    return Answer(document=fit_json(fitted), text=fit_text(fitted, out))


def refused_fit(fitted: DemandFit) -> Answer:
    """The answer where the diagnostics gate failed: what failed and what to do, and no number of demand."""
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.demand.diagnostics import diagnostics_json

    findings = (*fitted.diagnostics.findings, *fitted.findings)
    document: dict[str, object] = {
        "model": None,
        "status": "refused",
        "seconds": fitted.seconds,
        "diagnostics": diagnostics_json(fitted.diagnostics),
        "elasticities": [],
        "findings": findings,
    }
    text = "\n".join(["Refused: the sampler did not converge, so nothing is saved.", *finding_lines(findings)])
    return Answer(document=document, text=text, exit_code=REFUSED)


def refused_before_sampling(findings: tuple[Finding, ...]) -> Answer:
    """The answer where the sales cannot answer, or the model asked for cannot hold: why, and what would help."""
    from bayes_pricing.cli.text import finding_lines

    document: dict[str, object] = {
        "model": None,
        "status": "refused",
        "seconds": {},
        "diagnostics": None,
        "elasticities": [],
        "findings": findings,
    }
    return Answer(document=document, text="\n".join(["Refused.", *finding_lines(findings)]), exit_code=REFUSED)


def fit_json(fitted: DemandFit) -> dict[str, object]:
    """The answer for machines: id, status, seconds, diagnostics, elasticities, variation, coefficients, findings."""
    from bayes_pricing.demand.diagnostics import diagnostics_json
    from bayes_pricing.demand.elasticity import (
        attribute_table,
        control_table,
        cross_elasticity_table,
        elasticity_table,
        response_table,
        variation_table,
    )

    return {
        "model": fitted.posterior.id,
        "status": "ok",
        "likelihood": fitted.posterior.spec.likelihood,
        "choice": fitted.choice,
        "roles": fitted.roles,
        "seconds": fitted.seconds,
        "diagnostics": diagnostics_json(fitted.diagnostics),
        "elasticities": elasticity_table(fitted.posterior).to_dicts(),
        "variation": variation_table(fitted.posterior).to_dicts(),
        "coefficients": control_table(fitted.posterior).to_dicts(),
        "attributes": attribute_table(fitted.posterior).to_dicts(),
        "responses": response_table(fitted.posterior).to_dicts(),
        "cross_elasticities": cross_elasticity_table(fitted.posterior).to_dicts(),
        "price_curve": fitted.posterior.spec.price_curve,
        "steepness": fitted.posterior.spec.steepness or None,
        "confounding": fitted.confounding,
        "endogeneity": fitted.endogeneity,
        "prior_sensitivity": fitted.sensitivity,
        "findings": fitted.findings,
    }


def fit_text(fitted: DemandFit, out: Path | None) -> str:
    """The answer for people: what was fitted, elasticities above the items, what is to be known."""
    from bayes_pricing.cli.text import attribute_lines, elasticity_lines, finding_lines, role_words, score_lines

    spec, diagnostics = fitted.posterior.spec, fitted.diagnostics
    lines = [
        f"Demand model {fitted.posterior.id[:12]}: {spec.likelihood.replace('_', ' ')} ({fitted.choice.reason}).",
        f"{fitted.posterior.items.height:,} items; largest R-hat {diagnostics.max_rhat:.3f}, smallest bulk effective "
        f"sample size {diagnostics.min_ess_bulk:,.0f}, {diagnostics.divergences} divergences.",
        f"Columns: {role_words(fitted.roles)}.",
        "",
        *elasticity_lines(fitted.posterior),
        *attribute_lines(fitted.posterior),
    ]
    lines += ["", *score_lines(fitted.choice.scores)] if fitted.choice.scores else []
    lines += ["", *finding_lines(fitted.findings)] if fitted.findings else []
    lines += ["", f"Saved to {out}."] if out is not None else []
    return "\n".join(lines)
