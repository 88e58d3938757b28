"""`bayes-pricing fit` for choices, shares of markets and offers: the families that need no sales panel."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import polars as pl

from bayes_pricing.cli.choice_flags import Family, FamilyRequest, FittedFamily
from bayes_pricing.cli.choice_tables import elasticity_rows, interval, median_row, pair_rows, rows
from bayes_pricing.cli.output import Answer, ProgressCallback, progress_bar
from bayes_pricing.cli.purchase_family import fit_offers
from bayes_pricing.errors import Finding, Refusal, SpecError

if TYPE_CHECKING:
    from bayes_pricing.data.roles import ColumnRoles
    from bayes_pricing.demand.choice_elasticity import Tastes
    from bayes_pricing.demand.fit import SamplerSettings
    from bayes_pricing.demand.shares import SharePosterior
    from bayes_pricing.demand.shares_people import PeopleSharePosterior

ROLES: dict[Family, tuple[str, ...]] = {
    "choice-logit": ("item", "price", "quantity", "control", "shared_control"),
    "share-logit": (
        "item",
        "price",
        "quantity",
        "period",
        "region",
        "control",
        "shared_control",
        "attribute",
        "instrument",
    ),
    "purchase": ("price", "quantity", "exposure", "control", "shared_control", "competitor_price"),
}
FLAGS: dict[Family, tuple[str, ...]] = {
    "choice-logit": ("occasion", "chooser", "outside", "tastes"),
    "share-logit": ("tastes", "taste"),
    "purchase": ("unit_cost",),
}
MOST_PAIRS = 8


def fit_family(request: FamilyRequest) -> Answer:
    """Fit the family asked for and answer in the shape of every other fit.

    Raises
    ------
    SpecError
        If a flag was given that the family does not read.
    """
    from bayes_pricing.choice_registry import save_choice
    from bayes_pricing.cli.fit import refused_before_sampling
    from bayes_pricing.data.sources import read_sales
    from bayes_pricing.demand.fit import Stopwatch
    from bayes_pricing.storage import require_free

    _require_read(request)
    if request.out is not None:
        require_free(request.out)
    settings, watch = request.sampler.settings(), Stopwatch()
    frame = read_sales(request.sales.sales, request.sales.query).collect()
    if request.family == "purchase" and "item" not in frame.columns:
        frame = frame.with_columns(item=pl.lit("offer"))
    roles = request.roles.roles(frame.columns)
    work = {"choice-logit": _choices, "share-logit": _shares, "purchase": fit_offers}[request.family]
    with progress_bar() as progress:
        try:
            with watch.stage("fit"):
                fitted = work(request, frame, roles, settings, progress)
        except Refusal as refusal:
            return refused_before_sampling(refusal.findings)
    if request.out is not None:
        save_choice(fitted.fitted, request.out)
    return _answer(request, fitted, _columns(request.family, roles), watch.seconds)


def _answer(request: FamilyRequest, found: FittedFamily, used: dict[str, str], seconds: dict[str, float]) -> Answer:
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.demand.diagnostics import diagnostics_json

    posterior, findings = found.fitted.posterior, found.fitted.findings
    document: dict[str, object] = {
        "model": posterior.id,
        "status": "ok",
        "likelihood": request.family,
        "roles": used,
        "seconds": seconds,
        "diagnostics": diagnostics_json(posterior.diagnostics),
        **found.document,
        "findings": findings,
    }
    lines = [
        f"Model {posterior.id[:12]}: {request.family.replace('-', ' ')}.",
        f"Largest R-hat {posterior.diagnostics.max_rhat:.3f}, smallest bulk effective sample size "
        f"{posterior.diagnostics.min_ess_bulk:,.0f}, {posterior.diagnostics.divergences} divergences.",
        "Columns: " + "; ".join(f"{role.replace('_', ' ')} = {name}" for role, name in used.items()) + ".",
        "",
        *found.lines,
    ]
    lines += ["", *finding_lines(findings)] if findings else []
    lines += ["", f"Saved to {request.out}."] if request.out is not None else []
    return Answer(document=document, text="\n".join(lines))


def _columns(family: Family, roles: ColumnRoles) -> dict[str, str]:
    """Which column plays which role, those alone that the family reads."""
    several = {"control": "controls", "shared_control": "shared_controls", "competitor_price": "competitor_prices"}
    several |= {"instrument": "instruments", "attribute": "attributes"}
    found = {role: getattr(roles, several.get(role, role)) for role in ROLES[family]}
    return {role: name if isinstance(name, str) else ", ".join(name) for role, name in found.items() if name}


def _require_read(request: FamilyRequest) -> None:
    """Refuse flags that would do nothing."""
    for given, read in ((request.roles, ROLES[request.family]), (request.flags, FLAGS[request.family])):
        empty = type(given)()
        for field in fields(given):
            if field.name not in read and getattr(given, field.name) != getattr(empty, field.name):
                flag = "--" + field.name.replace("_", "-")
                raise SpecError(f"{flag} has no meaning under --model {request.family}; leave it out.")
    if request.sales.absent is not None:
        raise SpecError(f"--absent has no meaning under --model {request.family}; leave it out.")
    if request.randomised_price and request.family != "purchase":
        raise SpecError(f"--randomised-price has no meaning under --model {request.family}; leave it out.")
    if request.family == "choice-logit" and request.flags.tastes == "people":
        raise SpecError("--tastes people is for shares of markets; for individual choices say --tastes different.")
    if request.flags.taste and request.flags.tastes != "people":
        raise SpecError("--taste says what people differ in; it needs --tastes people.")
    if request.family == "choice-logit" and request.flags.occasion is None:
        raise SpecError("--model choice-logit needs --occasion: the column of the occasion on which one was chosen.")


def _choices(
    request: FamilyRequest,
    frame: pl.DataFrame,
    roles: ColumnRoles,
    settings: SamplerSettings,
    progress: ProgressCallback,
) -> FittedFamily:
    """Individual choices: elasticities of a typical market."""
    from bayes_pricing.choice_registry import ChoiceFit
    from bayes_pricing.demand.choice import TUNE, fit_choice
    from bayes_pricing.demand.choice_data import build_choices

    progress(0.02, "reading choices")
    data = build_choices(
        frame,
        occasion=request.flags.occasion or "",
        alternative=roles.item,
        chosen=roles.quantity,
        price=roles.price,
        attributes=(*roles.controls, *roles.shared_controls),
        chooser=request.flags.chooser,
        outside=request.flags.outside,
    )
    posterior = fit_choice(
        data,
        mixed=request.flags.tastes == "different",
        seed=request.seed,
        draws=settings.draws,
        tune=settings.tune or TUNE,
        chains=settings.chains,
        progress=lambda done, total: progress(0.05 + 0.9 * done / max(total, 1), "sampling"),
    )
    document, lines = _of_tastes(posterior)
    between = rows(list(data.coefficients), posterior.between_sd().to_numpy())
    variation = [{"level": "person", "coefficient": row.pop("name"), **row} for row in between]
    return FittedFamily(
        fitted=ChoiceFit(posterior=posterior, findings=() if data.outside else (_conditional(),)),
        document=document | {"variation": variation if posterior.factor is not None else []},
        lines=lines,
    )


def _shares(
    request: FamilyRequest,
    frame: pl.DataFrame,
    roles: ColumnRoles,
    settings: SamplerSettings,
    progress: ProgressCallback,
) -> FittedFamily:
    """Shares of markets: elasticities at observed prices and in a typical market."""
    from bayes_pricing.choice_registry import ChoiceFit
    from bayes_pricing.demand.shares import TUNE
    from bayes_pricing.demand.shares_data import build_shares
    from bayes_pricing.demand.shares_fit import fit_share_demand
    from bayes_pricing.demand.shares_people import TASTES

    market = [column for column in (roles.region, roles.period) if column is not None]
    if not market:
        raise SpecError("--model share-logit needs the market: name its column with --region or --period, or both.")
    progress(0.02, "reading shares")
    data = build_shares(
        frame,
        market=market,
        product=roles.item,
        share=roles.quantity,
        price=roles.price,
        controls=(*roles.controls, *roles.shared_controls, *roles.attributes),
        instruments=roles.instruments,
    )
    found = fit_share_demand(
        data,
        hierarchical=request.flags.tastes == "different",
        people=(request.flags.taste or TASTES) if request.flags.tastes == "people" else (),
        seed=request.seed,
        draws=settings.draws,
        tune=settings.tune or TUNE,
        chains=settings.chains,
        progress=progress,
    )
    posterior = found.posterior
    document, lines = _of_tastes(posterior)
    own = elasticity_rows("population", ["mean of all rows"], posterior.mean_own_elasticity().to_numpy()[:, None])
    own += elasticity_rows("item", list(data.products), posterior.own_elasticities().to_numpy())
    variation = _share_variation(posterior)
    mean = own[0]
    lines = [
        f"Mean own elasticity at observed prices and shares {mean['mean']:.2f} ({mean['lower']:.2f} to "
        f"{mean['upper']:.2f}).",
        *lines,
    ]
    return FittedFamily(
        fitted=ChoiceFit(posterior=posterior, findings=found.findings, endogeneity=found.endogeneity),
        document=document | {"elasticities": own, "variation": variation, "endogeneity": found.endogeneity},
        lines=lines,
    )


def _share_variation(posterior: SharePosterior | PeopleSharePosterior) -> list[dict[str, object]]:
    """How far products, markets or people differ."""
    from bayes_pricing.demand.shares_people import PeopleSharePosterior

    if isinstance(posterior, PeopleSharePosterior):
        between = rows(list(posterior.tastes_of), posterior.spread)
        return [{"level": "person", "coefficient": row.pop("name"), **row} for row in between]
    return [
        {"level": level, "coefficient": coefficient, **interval(posterior.scales[name])}
        for name, level, coefficient in (("product_sd", "item", "level"), ("market_sd", "market", "elasticity"))
        if name in posterior.scales
    ]


def _of_tastes(posterior: Tastes) -> tuple[dict[str, object], list[str]]:
    """What choices and shares have in common: coefficients, elasticities, diversion, willingness to pay."""
    from bayes_pricing.demand.choice_elasticity import (
        choice_elasticities,
        diversion,
        market_shares,
        willingness_to_pay,
    )

    names = [name for name in posterior.alternatives if name != "outside"]
    inside = [at for at, name in enumerate(posterior.alternatives) if name != "outside"]
    elasticity = choice_elasticities(posterior).to_numpy()
    pairs = [(a, b) for a in range(len(posterior.alternatives)) for b in inside if a != b]
    cross = elasticity[:, [a for a, _ in pairs], [b for _, b in pairs]]
    ways = [(a, b) for a in inside for b in range(len(posterior.alternatives)) if a != b]
    diverted = diversion(posterior).to_numpy()[:, [a for a, _ in ways], [b for _, b in ways]]
    own = elasticity_rows("item", names, elasticity[:, inside, inside])
    worth = [name for name in posterior.regressors if name != "price" and not name.startswith("constant:")]
    shares = market_shares(posterior).to_numpy()
    document: dict[str, object] = {
        "elasticities": own,
        "coefficients": rows(list(posterior.regressors), posterior.mean),
        "shares": rows(list(posterior.alternatives), shares),
        "cross_elasticities": pair_rows(posterior.alternatives, pairs, cross, ("item", "price_of")),
        "diversion": pair_rows(posterior.alternatives, ways, diverted, ("from", "to")),
        "willingness_to_pay": [median_row(name, willingness_to_pay(posterior, name).to_numpy()) for name in worth],
    }
    width = max(len(name) for name in names)
    lines = [f"{'':<{width}}  elasticity   90 % interval     share of a typical market"]
    for row, at in zip(own[:MOST_PAIRS], inside, strict=False):
        lines.append(
            f"{row['name']:<{width}}  {row['mean']:10.2f}   {row['lower']:6.2f} to {row['upper']:6.2f}"
            f"   {shares[:, at].mean():8.1%}"
        )
    if len(own) > MOST_PAIRS:
        lines.append(f"... and {len(own) - MOST_PAIRS} more (--json has all).")
    for name in worth:
        value = median_row(name, willingness_to_pay(posterior, name).to_numpy())
        lines.append(
            f"One unit of {name} is worth {value['median']:.3g} ({value['lower']:.3g} to {value['upper']:.3g})."
        )
    return document, lines


def _conditional() -> Finding:
    return Finding(
        code="no_outside_option",
        severity="info",
        message="every occasion has a choice, so the answer says who gets a sale and not how many sales there are",
        remedy="to price for revenue add the occasions on which nothing was bought (--outside)",
    )
