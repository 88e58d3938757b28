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
    from bayes_pricing.pricing.pass_through import PassThrough


def recommend(
    model: ModelFlags,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    *,
    policy: Path | None = None,
    evaluate: Path | None = None,
    frontier: Annotated[bool, Parameter(negative=())] = False,
    cost_rise: float | None = None,
    tax_rise: float | None = None,
    own_item: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())] = (),
    period_name: str | None = None,
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
    frontier
        Also weigh expected gain against risk: the efficient frontier, and what each risk limit costs.
    cost_rise
        Also say how much of such a rise of every unit's cost the best prices would pass on to buyers.
    tax_rise
        The same for a rise of the sales tax inside the price (0.02 for 2 points); one of the two at a time.
    own_item
        Choices and shares: a product that is yours, the others' prices stand still; repeatable; left out, all are.
    period_name
        What a period is called, e.g. week; left out, read off the calendar of the sales.
    seed
        Same seed, same answer.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.choice_registry import is_choice
    from bayes_pricing.cli.choice_prices import ChoiceQuestion, recommend_choice
    from bayes_pricing.cli.policy import decidable, decide, read_policy, score
    from bayes_pricing.cli.text import certainty_line, decision_lines
    from bayes_pricing.pricing.decision import decision_json
    from bayes_pricing.pricing.phrases import calendar_days, calendar_word
    from bayes_pricing.registry import load_fit

    money, limits = read_policy(policy, money or MoneyFlags(), limits or LimitFlags())
    if is_choice(model.model_dir):
        if evaluate or frontier or period_name or cost_rise is not None or tax_rise is not None:
            raise SpecError(
                "Choices, shares and offers have prices alone: leave out --evaluate, --frontier, --cost-rise, "
                "--tax-rise and --period-name, or ask `bayes_pricing.pricing.choice_prices` from Python."
            )
        asked = ChoiceQuestion(model_dir=model.model_dir, money=money, limits=limits, own=own_item, seed=seed)
        return recommend_choice(asked)
    if own_item:
        raise SpecError("--own-item is for choices and shares; every item of a model of sales is priced.")
    with progress_bar() as progress:
        progress(0.1, "reading the model")
        fitted = load_fit(model.model_dir)
        posterior, days = decidable(fitted), calendar_days(fitted.summary)
        called = period_name or calendar_word(fitted.summary)
        progress(0.3, "judging prices on every posterior draw")
        if evaluate is None:
            decision = decide(posterior, money, limits, seed=seed, period_days=days)
        else:
            own = read_prices(evaluate, posterior)
            decision = score(posterior, money, limits, prices=own, seed=seed, period_days=days)
        document = {"status": "ok", "period": called, **decision_json(decision)}
        lines = decision_lines(decision, period=called)
        if limits.risk_tolerance is not None:
            lines.append(certainty_line(decision, limits.risk_tolerance, called))
        if frontier:
            progress(0.6, "weighing gain against risk")
            _weigh(document, lines, posterior, money, limits, seed)
        if cost_rise is not None or tax_rise is not None:
            progress(0.8, "passing the rise on")
            passed = _passed_on(posterior, money, limits, cost_rise=cost_rise, tax_rise=tax_rise, seed=seed)
            _tell_passed_on(document, lines, passed)
    return Answer(document=document, text="\n".join(lines))


def _weigh(
    document: dict[str, object], lines: list[str], posterior: DemandPosterior, money: MoneyFlags, limits: LimitFlags,
    seed: int,
) -> None:  # fmt: skip
    import msgspec

    from bayes_pricing.cli.policy import weigh_risk
    from bayes_pricing.cli.text import frontier_lines

    points, costs = weigh_risk(posterior, money, limits, seed=seed)
    document |= {"frontier": msgspec.to_builtins(points), "price_of_caution": msgspec.to_builtins(costs)}
    lines += ["", *frontier_lines(points, costs)]


def _passed_on(
    posterior: DemandPosterior, money: MoneyFlags, limits: LimitFlags, *, cost_rise: float | None,
    tax_rise: float | None, seed: int,
) -> tuple[PassThrough, ...]:  # fmt: skip
    from bayes_pricing.pricing.pass_through import pass_through

    return pass_through(
        posterior, money.economics(), limits.limits(), horizon_periods=limits.horizon, seed=seed, cost_rise=cost_rise,
        tax_rise=tax_rise,
    )  # fmt: skip


def _tell_passed_on(document: dict[str, object], lines: list[str], passed: tuple[PassThrough, ...]) -> None:
    import msgspec

    from bayes_pricing.cli.text import pass_through_lines

    document["pass_through"] = msgspec.to_builtins(passed)
    lines += ["", *pass_through_lines(passed)]


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
