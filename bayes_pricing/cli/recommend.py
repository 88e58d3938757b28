"""`bayes-pricing recommend`: prices that are expected to earn most under the limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bayes_pricing.cli.decision_flags import LimitFlags, ModelFlags, MoneyFlags
from bayes_pricing.cli.output import Answer, progress_bar
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from bayes_pricing.demand.posterior import DemandPosterior
    from bayes_pricing.pricing.decision import PriceDecision


def recommend(
    model: ModelFlags,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    *,
    policy: Path | None = None,
    evaluate: Path | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Recommend prices, each with what it is expected to change, how sure that is, and what stopped it going further.

    Example: bayes-pricing recommend --model-dir model --objective profit --max-change 0.15 --max-loss-probability 0.2

    Parameters
    ----------
    policy
        TOML file with objective and limits under the flags' own names, instead of flags.
    evaluate
        CSV or Parquet file with your own prices (columns item, price), scored on the same footing.
    seed
        Same seed, same answer.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.cli.policy import decidable, decide, objective_of, read_policy
    from bayes_pricing.pricing.decision import decision_json
    from bayes_pricing.pricing.optimizer import evaluate_prices
    from bayes_pricing.registry import load_fit

    money, limits = read_policy(policy, money or MoneyFlags(), limits or LimitFlags())
    with progress_bar() as progress:
        progress(0.1, "reading the model")
        posterior = decidable(load_fit(model.model_dir))
        progress(0.3, "judging prices on every posterior draw")
        if evaluate is None:
            decision = decide(posterior, money, limits, seed=seed)
        else:
            decision = evaluate_prices(
                posterior,
                money.economics(),
                objective_of(posterior, money, limits),
                limits.limits(),
                prices=read_prices(evaluate, posterior),
                horizon_periods=limits.horizon,
                seed=seed,
            )
    return Answer(document={"status": "ok", **decision_json(decision)}, text=decision_text(decision))


def read_prices(path: Path, posterior: DemandPosterior) -> dict[str, float]:
    """The user's own prices by item.

    Raises
    ------
    SpecError
        If a column is missing, an item is unknown or named twice, or a price is not positive.
    """
    import polars as pl

    from bayes_pricing.data.sources import read_sales

    frame = read_sales(str(path)).collect()
    if not {"item", "price"} <= set(frame.columns):
        raise SpecError(f"{path} has the columns {frame.columns}; it needs item and price.")
    frame = frame.select(pl.col("item").cast(pl.String), pl.col("price").cast(pl.Float64, strict=False))
    unknown = sorted(set(frame["item"].to_list()) - set(posterior.items["item"].to_list()))
    if unknown:
        raise SpecError(f"{path} names {len(unknown)} items the model does not know, e.g. {unknown[0]!r}.")
    twice = frame.filter(pl.col("item").is_duplicated())
    if twice.height:
        raise SpecError(f"{path} names {twice['item'][0]!r} more than once; give one price per item.")
    bad = frame.filter(~(pl.col("price") > 0).fill_null(value=False))
    if bad.height:
        raise SpecError(f"{path} has {bad.height} prices that are not positive numbers, e.g. of {bad['item'][0]!r}.")
    return dict(frame.iter_rows())


def decision_text(decision: PriceDecision) -> str:
    """The decision for people: the portfolio, then the items with the largest stakes."""
    from bayes_pricing.cli.text import decision_lines

    return "\n".join(decision_lines(decision))
