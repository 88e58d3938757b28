"""`bayes-pricing explain`: why this price, from the numbers of the decision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bayes_pricing.cli.decision_flags import LimitFlags, ModelFlags, MoneyFlags
from bayes_pricing.cli.output import Answer, progress_bar
from bayes_pricing.errors import SpecError


def explain(
    model: ModelFlags,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    *,
    item: str,
    policy: Path | None = None,
    length: Literal["headline", "paragraph", "full"] = "full",
    own_item: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())] = (),
    period_name: str | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Say why an item's price is recommended: money, evidence, limits, and what would have to be true for another.

    Example: bayes-pricing explain --model-dir model --item tea-100g --max-change 0.15 --length paragraph

    Parameters
    ----------
    item
        Item to explain.
    policy
        TOML file with objective and limits under the flags' own names, instead of flags.
    length
        How much prose: a headline of at most 25 words, a paragraph of reasons, or everything.
    own_item
        Choices and shares: a product that is yours, as for `recommend`; repeatable; left out, all are.
    period_name
        What a period is called, e.g. week; left out, read off the calendar of the sales.
    seed
        Same seed, same answer.
    json
        One JSON document on standard output.
    """
    import msgspec

    from bayes_pricing.choice_registry import is_choice
    from bayes_pricing.cli.choice_prices import ChoiceQuestion, explain_choice
    from bayes_pricing.cli.policy import decidable, decide, decided_alone, read_policy
    from bayes_pricing.pricing import explanation
    from bayes_pricing.pricing.phrases import calendar_days, calendar_word
    from bayes_pricing.pricing.wording import word
    from bayes_pricing.registry import load_fit

    money, limits = read_policy(policy, money or MoneyFlags(), limits or LimitFlags())
    if is_choice(model.model_dir):
        question = ChoiceQuestion(model_dir=model.model_dir, money=money, limits=limits, own=own_item, seed=seed)
        return explain_choice(question, item, length)
    if own_item:
        raise SpecError("--own-item is for choices and shares; every item of a model of sales is priced.")
    with progress_bar() as progress:
        progress(0.1, "reading the model")
        fitted = load_fit(model.model_dir)
        posterior = decidable(fitted)
        progress(0.3, "judging prices on every posterior draw")
        asked = [item] if decided_alone(posterior, limits) else None
        days = calendar_days(fitted.summary)
        decision = decide(posterior, money, limits, seed=seed, items=asked, period_days=days)
        called = period_name or calendar_word(fitted.summary)
        explained = explanation.explain(posterior, decision, item, period=called, findings=fitted.findings)
    document = {
        "status": "ok",
        **msgspec.to_builtins(explained),
        "prose": {name: word(explained, name) for name in ("headline", "paragraph", "full")},
    }
    return Answer(document=document, text=word(explained, length))
