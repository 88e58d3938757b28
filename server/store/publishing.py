"""Writing a published model: thin the draws, decide on the thinned ones, encode what every item will be asked."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.elasticity import control_table, elasticity_table, variation_table
from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.pricing.curve import price_curve
from bayes_pricing.pricing.decision import ItemDecision, PriceDecision, decision_json, estimate
from bayes_pricing.pricing.evidence import ElasticityEvidence, elasticity_evidence
from bayes_pricing.pricing.outlook import build_block, item_facts
from bayes_pricing.pricing.profit import OBJECTIVES
from server.finite import encode_finite
from server.policies import policy_flags
from server.store.published import FORMAT_VERSION, ITEMS, MANIFEST, NAMES, Manifest, file_digest

if TYPE_CHECKING:
    from bayes_pricing.demand.posterior import DemandPosterior

DRAWS = 1000
"""Joint draws kept, over all chains."""
ITEMS_AT_ONCE = 256
Floats = NDArray[np.float64]
Progress = Callable[[float, str], None]


def publish_model(
    model_dir: Path,
    root: Path,
    *,
    policy: Mapping[str, Any] | None = None,
    seed: int = 1,
    draws: int = DRAWS,
    progress: Progress | None = None,
) -> str:
    """Publish a saved fit under a policy: thin it, decide, compute every item's answers, move it into place at once.

    Parameters
    ----------
    model_dir : Path
        Folder written by ``fit --out``.
    root : Path
        Folder of all published models.
    policy : mapping, optional
        Objective, money and limits under the flags' own names, as in a TOML policy file.
    seed : int
    draws : int
        Joint draws kept, over all chains.
    progress : callable, optional
        Told ``(fraction, label)``.

    Returns
    -------
    str
        Id, a content address: publishing the same fit under the same policy again gives the same one and changes
        nothing.

    Raises
    ------
    StorageError
        If there is no saved fit, or it is damaged.
    SpecError
        If the policy has an unknown name or makes no sense.
    Refusal
        If no prices can honestly be recommended from the fit, or limits of the portfolio cannot be met.
    """
    from bayes_pricing.cli.policy import decidable
    from bayes_pricing.demand.diagnostics import diagnostics_json
    from bayes_pricing.pricing.phrases import calendar_days
    from bayes_pricing.registry import load_fit

    fitted = load_fit(model_dir)
    about = {
        "likelihood": fitted.posterior.spec.likelihood,
        "choice": fitted.choice,
        "diagnostics": diagnostics_json(fitted.diagnostics),
        "summary": fitted.summary,
        "roles": fitted.roles,
        "findings": fitted.findings,
        "fit_seed": fitted.seed,
    }
    return publish_posterior(
        decidable(fitted),
        root,
        about=about,
        policy=policy,
        seed=seed,
        draws=draws,
        period_days=calendar_days(fitted.summary),
        progress=progress,
    )


def publish_posterior(
    posterior: DemandPosterior,
    root: Path,
    *,
    about: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
    seed: int = 1,
    draws: int = DRAWS,
    period_days: float | None = None,
    progress: Progress | None = None,
) -> str:
    """Publish a posterior that stands in memory; see :func:`publish_model`.

    `period_days` says how long a period is, where the sales have dates; it makes the day the prices go stale exact.

    Raises
    ------
    Refusal
        If prices of items cross: what one of them brings is then no answer without the prices of the others.
    """
    if posterior.spec.cross_prices is not None:
        raise Refusal([_prices_cross()])
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".publishing-", dir=root))
    try:
        written = write_published(
            posterior,
            staging,
            about=about or {},
            policy=policy or {},
            seed=seed,
            draws=draws,
            period_days=period_days,
            progress=progress,
        )
        files = {str(path.relative_to(staging)): file_digest(path) for path in _files(staging)}
        encoded = msgspec.json.encode({"about": written, "files": files}, order="sorted")
        name = hashlib.blake2b(encoded, digest_size=16).hexdigest()
        manifest = Manifest(
            format_version=FORMAT_VERSION, id=name, about=msgspec.json.decode(msgspec.json.encode(written)), files=files
        )
        (staging / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        staging.chmod(0o755)
        if not (root / name / MANIFEST).exists():
            shutil.rmtree(root / name, ignore_errors=True)
            staging.rename(root / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return name


def write_published(
    posterior: DemandPosterior,
    folder: Path,
    *,
    about: Mapping[str, Any],
    policy: Mapping[str, Any],
    seed: int,
    draws: int,
    period_days: float | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Write a published model's files and return what its manifest says about it."""
    from bayes_pricing.cli.policy import decide

    tell = progress or _quiet
    tell(0.05, "thinning the draws")
    thinned = thin_posterior(posterior, draws)
    tell(0.2, "judging prices on the thinned draws")
    money, limits = policy_flags(policy)
    decision = with_withdrawn(decide(thinned, money, limits, seed=seed, period_days=period_days), thinned)
    names = [decided.item for decided in decision.items]
    (folder / NAMES).write_bytes(msgspec.json.encode(names))
    thinned.items.write_parquet(folder / ITEMS)
    _write_draws(thinned, folder / "draws")
    _write_blob(folder, "recommendation", (encode_finite(decided) for decided in decision.items))
    _write_blob(folder, "curve", _curves(thinned, decision, names, tell))
    _write_blob(folder, "evidence", _evidence(posterior, names, tell))
    plain = decision_json(decision)
    del plain["items"]
    tell(0.97, "summing up the categories")
    return {
        **about,
        "fit": posterior.id,
        "seed": seed,
        "draws": int(np.prod(thinned.shared_draws.shape[:2])),
        "items": len(names),
        "policy": dict(policy),
        "posterior": thinned.metadata,
        "decision": plain,
        "actions": {action: decision.count(action) for action in ("change", "hold", "test_first", "refused")},
        "elasticities": elasticity_table(thinned).filter(pl.col("level") != "item").to_dicts(),
        "variation": variation_table(thinned).to_dicts(),
        "coefficients": control_table(thinned).to_dicts(),
        "groups": group_performance(thinned, decision),
    }


def _prices_cross() -> Finding:
    return Finding(
        code="cross_prices_not_published",
        severity="error",
        message="prices of this model's items act on each other, and the server answers for one item at a time",
        remedy="recommend and explain it in the shell, or publish a fit without --cross-prices",
    )


def thin_posterior(posterior: DemandPosterior, draws: int) -> DrawsPosterior:
    """At most `draws` joint draws of everything a decision or an explanation asks for, float32, spread evenly."""
    population = _array(posterior.coefficients("population"))
    chains, total = population.shape[:2]
    kept = np.unique(np.linspace(0, total - 1, min(total, max(draws // chains, 1))).round().astype(int))
    names = [str(name) for name in posterior.items["item"]]
    spec = posterior.spec
    item = np.empty((len(names), len(spec.coefficients), chains, len(kept)), dtype=np.float32)
    smearing = np.empty((len(names), chains, len(kept)), dtype=np.float32)
    for start in range(0, len(names), ITEMS_AT_ONCE):
        where = slice(start, start + ITEMS_AT_ONCE)
        part = posterior.coefficients("item", names[where]).transpose("item", "coefficient", "chain", "draw")
        item[where] = part.to_numpy()[..., kept]
        smearing[where] = posterior.log_smearing(names[where]).transpose("item", "chain", "draw").to_numpy()[..., kept]
    upper = {level: posterior.coefficients(level) for level in spec.levels}
    return DrawsPosterior(
        id=posterior.id,
        spec=spec,
        items=posterior.items,
        units={level: tuple(str(name) for name in drawn[level].to_numpy()) for level, drawn in upper.items()},
        item_draws=item.transpose(2, 3, 0, 1),
        upper_draws={"population": population[:, kept].astype(np.float32)}
        | {level: _array(drawn)[:, kept].astype(np.float32) for level, drawn in upper.items()},
        between_sd={level: _array(posterior.variation(level))[:, kept] for level in ("item", *spec.levels)},
        correlation={},
        shared_draws=_array(posterior.shared())[:, kept],
        dispersion=_dispersion(posterior, kept),
        weight=np.asarray(posterior.own_data_weight().to_numpy(), dtype=np.float64),
        smearing=smearing.transpose(1, 2, 0),
    )


def with_withdrawn(decision: PriceDecision, posterior: DrawsPosterior) -> PriceDecision:
    """The decision with a refusal for every item that was left out because it had stopped selling."""
    decided = {item.item for item in decision.items}
    gone = posterior.items.filter(~pl.col("item").is_in(decided))
    reasons = tuple(finding for finding in decision.findings if finding.code == "not_on_sale")
    refused = [
        ItemDecision(
            item=row["item"],
            action="refused",
            current_price=row["current_price"],
            recommended_price=None,
            revenue=None,
            profit=None,
            units=None,
            probability_better=None,
            expected_regret=None,
            regret_of_staying=None,
            binding=(),
            shadow_price=0.0,
            shortfall_contribution=None,
            support="supported",
            test_price=None,
            test_periods=0,
            value_of_testing=None,
            findings=tuple(replace(finding, item=row["item"]) for finding in reasons),
        )
        for row in gone.iter_rows(named=True)
    ]
    return replace(decision, items=tuple(sorted((*decision.items, *refused), key=lambda item: item.item)))


def group_performance(posterior: DrawsPosterior, decision: PriceDecision) -> list[dict[str, Any]]:
    """Per unit of every nesting level: items, what they sell and earn today, and what the decision is expected to add.

    Money and units are per period, mean and 90 % interval over joint draws.
    """
    if not posterior.spec.levels:
        return []
    table = posterior.items
    values = {metric: decision.economics.unit_value(metric, table) for metric in OBJECTIVES}
    prices = decision.prices.to_numpy()
    sums: dict[tuple[str, str], dict[str, Floats]] = {}
    for start in range(0, table.height, ITEMS_AT_ONCE):
        where = slice(start, min(start + ITEMS_AT_ONCE, table.height))
        rows = table[where]
        block = build_block(
            item_facts(rows, decision.economics, decision.objective), demand_draws(posterior, rows["item"].to_list())
        )
        growth = block.growth(prices[where])
        for metric in OBJECTIVES:
            value = values[metric].part(where)
            known = ~np.isnan(value.charge)
            today = np.where(known[:, None], value.at(block.facts.current_price)[:, None] * block.units_today, 0.0)
            change = np.where(known[:, None], block.change(prices[where], value, growth), 0.0)
            for level in posterior.spec.levels:
                for unit in rows[level].unique().to_list():
                    inside = (rows[level] == unit).to_numpy()
                    held = sums.setdefault((level, str(unit)), {})
                    for name, values_of in ((f"{metric}_today", today), (f"{metric}_change", change)):
                        held[name] = held.get(name, 0.0) + values_of[inside].sum(axis=0)
    counts = {
        (level, str(unit)): count
        for level in posterior.spec.levels
        for unit, count in table.group_by(level).len().iter_rows()
    }
    return [
        {
            "level": level,
            "name": unit,
            "items": counts[level, unit],
            **{f"{name}_per_period": estimate(drawn) for name, drawn in held.items()},
        }
        for (level, unit), held in sorted(sums.items())
    ]


def _curves(posterior: DrawsPosterior, decision: PriceDecision, names: list[str], tell: Progress) -> Iterator[bytes]:
    for place, name in enumerate(names):
        if place % 50 == 0:
            tell(0.4 + 0.25 * place / len(names), "drawing profit curves")
        refused = decision.items[place].action == "refused"
        points = [] if refused else price_curve(posterior, decision, name).to_dicts()
        yield encode_finite(points)


def _evidence(posterior: DemandPosterior, names: list[str], tell: Progress) -> Iterator[bytes]:
    for place, name in enumerate(names):
        if place % 50 == 0:
            tell(0.65 + 0.3 * place / len(names), "gathering the evidence of elasticities")
        found: ElasticityEvidence = elasticity_evidence(posterior, name)
        yield encode_finite(found)


def _write_draws(posterior: DrawsPosterior, folder: Path) -> None:
    folder.mkdir()
    arrays: dict[str, NDArray[Any]] = {
        "item": posterior.item_draws.transpose(2, 3, 0, 1),
        "smearing": (posterior.smearing if posterior.smearing is not None else np.empty(0)).transpose(2, 0, 1),
        "shared": posterior.shared_draws,
        "weight": posterior.weight,
    }
    if posterior.dispersion is not None:
        arrays["dispersion"] = posterior.dispersion
    arrays |= {f"upper_{level}": drawn for level, drawn in posterior.upper_draws.items()}
    arrays |= {f"sd_{level}": drawn for level, drawn in posterior.between_sd.items()}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))


def _dispersion(posterior: DemandPosterior, kept: NDArray[Any]) -> Floats | None:
    if posterior.spec.likelihood != "negative_binomial":
        return None
    return np.asarray(_array(posterior.hyper()["overdispersion"])[:, kept] ** -2.0, dtype=np.float64)


def _array(drawn: Any) -> NDArray[Any]:
    return np.asarray(drawn.transpose("chain", "draw", ...).to_numpy())


def _quiet(fraction: float, label: str) -> None:
    """Progress that nobody watches."""


def _write_blob(folder: Path, name: str, parts: Iterable[bytes]) -> None:
    """Write encoded answers one after the other, with where each begins."""
    lengths = [0]
    with (folder / f"{name}.bin").open("wb") as file:
        lengths.extend(file.write(part) for part in parts)
    np.save(folder / f"{name}.offsets.npy", np.cumsum(np.array(lengths, dtype=np.int64)))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
