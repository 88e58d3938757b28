"""`bayes-pricing recommend` and `explain` for saved choices, shares of markets and offers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bayes_pricing.cli.choice_tables import interval
from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
from bayes_pricing.cli.output import Answer
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from bayes_pricing.demand.purchase import PurchasePosterior
    from bayes_pricing.pricing.choice_prices import ChoicePrices, Choosers, OfferPrice
    from bayes_pricing.pricing.profit import Objective

READ_OF_OFFERS = ("objective", "lowest_price", "highest_price")
READ_OF_CHOICES = (
    *READ_OF_OFFERS,
    "max_change",
    "extrapolate",
    "min_margin",
    "max_shortfall",
    "tail_share",
    "risk_tolerance",
)
Length = Literal["headline", "paragraph", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceQuestion:
    """What prices are asked for.

    Attributes
    ----------
    model_dir : Path
    money : MoneyFlags
    limits : LimitFlags
    own : tuple of str
        One's own products; all when empty.
    seed : int
    """

    model_dir: Path
    money: MoneyFlags
    limits: LimitFlags
    own: tuple[str, ...]
    seed: int


def recommend_choice(asked: ChoiceQuestion) -> Answer:
    """Prices that are expected to earn most, with their risk."""
    document, lines = _priced(asked)
    return Answer(document={"status": "ok", **document}, text="\n".join(lines))


def explain_choice(asked: ChoiceQuestion, item: str, length: Length) -> Answer:
    """The same prices told for one product: what it reacts to, where its buyers go, and what the price is worth."""
    document, lines = _priced(asked, item)
    prose = {"headline": lines[0], "paragraph": " ".join(lines[:3]), "full": "\n".join(lines)}
    return Answer(document={"status": "ok", "item": item, **document, "prose": prose}, text=prose[length])


def _priced(asked: ChoiceQuestion, item: str | None = None) -> tuple[dict[str, object], list[str]]:
    from bayes_pricing.choice_registry import load_choice
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.demand.purchase import PurchasePosterior

    fitted = load_choice(asked.model_dir)
    if isinstance(fitted.posterior, PurchasePosterior):
        document, lines = _offer(asked, fitted.posterior, item)
    else:
        document, lines = _choice(asked, fitted.posterior, item)
    lines += ["", *finding_lines(fitted.findings)] if fitted.findings else []
    return {"model": fitted.posterior.id, **document, "findings": fitted.findings}, lines


def _objective(asked: ChoiceQuestion) -> Objective:
    return asked.limits.objective or ("revenue" if asked.money.unit_cost is None else "profit")


def _require_read(limits: LimitFlags, read: tuple[str, ...]) -> None:
    empty = LimitFlags()
    for field in fields(limits):
        if field.name not in read and getattr(limits, field.name) != getattr(empty, field.name):
            flag = "--" + field.name.replace("_", "-")
            known = ", ".join("--" + name.replace("_", "-") for name in read)
            raise SpecError(f"{flag} has no meaning for this model; {known} have.")


def _offer(
    asked: ChoiceQuestion, posterior: PurchasePosterior, item: str | None
) -> tuple[dict[str, object], list[str]]:
    from bayes_pricing.pricing.choice_prices import best_offer_price

    _require_read(asked.limits, READ_OF_OFFERS)
    if asked.own or item not in {None, "offer"}:
        raise SpecError("A purchase model knows one offer; leave --own-item out and call the item 'offer'.")
    found = best_offer_price(
        posterior,
        asked.money.economics(),
        _objective(asked),
        lowest=asked.limits.lowest_price,
        highest=asked.limits.highest_price,
    )
    place = int((found.grid == found.price).argmax())
    best = {
        "price": found.price,
        "money": interval(found.money[:, place]),
        "probability_taken": interval(found.probability[:, place]),
        "optimum": interval(found.best),
        "expected_regret": found.expected_regret,
        "lower_tail_mean": found.lower_tail,
    }
    curve = [
        {"price": float(price), "probability_taken": interval(taken), "money": interval(money)}
        for price, taken, money in zip(found.grid, found.probability.T, found.money.T, strict=True)
    ]
    return {"objective": _objective(asked), "best_price": best, "curve": curve}, _offer_lines(asked, found, place)


def _offer_lines(asked: ChoiceQuestion, found: OfferPrice, place: int) -> list[str]:
    earned, best = interval(found.money[:, place]), interval(found.best)
    taken, currency = interval(found.probability[:, place]), asked.money.currency
    what = f"{_objective(asked)} per offer{', ' + currency if currency else ''}"
    return [
        f"Charge {found.price:.4g}: {what} {earned['mean']:.3g} ({earned['lower']:.3g} to {earned['upper']:.3g}).",
        f"Of the offers {taken['mean']:.1%} are taken at it ({taken['lower']:.1%} to {taken['upper']:.1%}).",
        f"The best tested price is between {best['lower']:.4g} and {best['upper']:.4g} with probability "
        f"{best['probability']:.0%}; knowing it would bring {found.expected_regret:.2g} more on average.",
        f"In the worst 5 % of draws an offer brings {found.lower_tail:.3g}.",
    ]


def _choice(asked: ChoiceQuestion, posterior: Choosers, item: str | None) -> tuple[dict[str, object], list[str]]:
    from bayes_pricing.pricing.choice_prices import best_choice_prices

    _require_read(asked.limits, READ_OF_CHOICES)
    found = best_choice_prices(
        posterior,
        asked.money.economics(),
        _objective(asked),
        asked.limits.limits(),
        seed=asked.seed,
        own=asked.own,
        functional=asked.limits.utility(),
    )
    better = float((found.change > 0).mean())
    prices = [
        {
            "item": name,
            "today": float(today),
            "price": float(price),
            "units_today": interval(before),
            "units": interval(after),
        }
        for name, today, price, before, after in zip(
            found.own, found.today, found.prices, found.units_today.T, found.units.T, strict=True
        )
    ]
    document: dict[str, object] = {
        "objective": _objective(asked),
        "per": "potential buyer",
        "prices": prices,
        "money_today": interval(found.money_today),
        "change": interval(found.change),
        "probability_better": better,
        "expected_shortfall": found.expected_shortfall,
        "starts": found.starts,
        "agreed": found.agreed,
        "certified": False,
    }
    lines = _choice_lines(asked, found, better)
    if item is None:
        return document, [*lines, *_price_lines(found)]
    reasons, told = _reasons(posterior, found, item)
    return document | reasons, [*told, *lines]


def _choice_lines(asked: ChoiceQuestion, found: ChoicePrices, better: float) -> list[str]:
    from bayes_pricing.pricing.phrases import percent

    change, today = interval(found.change), interval(found.money_today)
    return [
        f"{_objective(asked).capitalize()} per potential buyer, those who buy nothing counted: {change['mean']:+.3g} "
        f"({change['lower']:+.3g} to {change['upper']:+.3g}) on {today['mean']:.3g} at the mean prices so far.",
        f"Probability of doing better: {percent(better)}. Expected shortfall (worst 5 % of draws): "
        f"{found.expected_shortfall:.3g}.",
        f"The others' prices stand still. Not certified: {found.agreed} of {found.starts} climbs ended here.",
    ]


def _price_lines(found: ChoicePrices) -> list[str]:
    width = max(len(name) for name in found.own)
    rows = zip(found.own, found.today, found.prices, found.units_today.mean(0), found.units.mean(0), strict=True)
    return ["", f"{'':<{width}}      today       best   share today   share"] + [
        f"{name:<{width}} {today:10.4g} {price:10.4g}  {before:11.1%}  {after:6.1%}"
        for name, today, price, before, after in rows
    ]


def _reasons(posterior: Choosers, found: ChoicePrices, item: str) -> tuple[dict[str, object], list[str]]:
    """Elasticity and diversion of one product at the mean prices so far."""
    from bayes_pricing.demand.choice_elasticity import choice_elasticities, diversion

    if item not in found.own:
        raise SpecError(f"{item!r} is not priced; choose one of {', '.join(found.own)}.")
    at = found.own.index(item)
    own = interval(choice_elasticities(posterior).sel(alternative=item, price_of=item).to_numpy())
    leaving = diversion(posterior).sel({"from": item}).mean("draw")
    most = int(leaving.to_numpy().argmax())
    to, share = str(leaving["to"].to_numpy()[most]), float(leaving[most])
    where = "buy nothing" if to == "outside" else f"take {to}"
    reasons: dict[str, object] = {"elasticity": own, "diversion": {"to": to, "share": share}}
    return reasons, [
        f"{item}: {found.prices[at]:.4g}, from a mean of {found.today[at]:.4g} so far.",
        f"Its elasticity there is {own['mean']:.2f} ({own['lower']:.2f} to {own['upper']:.2f}); of the buyers it loses "
        f"to a higher price most ({share:.0%}) {where}.",
    ]
