"""Flags of the families that read choices, shares of markets and offers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from bayes_pricing.cli.flags import RoleFlags, SalesFlags, SamplerFlags

if TYPE_CHECKING:
    from bayes_pricing.choice_registry import ChoiceFit

Family = Literal["choice-logit", "share-logit", "purchase"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFlags:
    """What only choices, shares and offers have."""

    occasion: str | None = None
    """choice-logit: column of the occasion on which one alternative was chosen."""
    chooser: str | None = None
    """choice-logit: column of who chose."""
    outside: Annotated[bool, Parameter(negative=())] = False
    """choice-logit: an occasion without a choice means that nothing was bought."""
    tastes: Literal["equal", "different", "people"] = "equal"
    """Coefficients that differ: `different` between people (choice-logit) or markets (share-logit, price alone);
    `people`, for share-logit, between people of one market, so that substitution goes by what products are like."""
    taste: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())] = ()
    """share-logit, --tastes people: what people differ in: price, constant, a control's column; repeatable; left out,
    price and constant."""
    unit_cost: float = 0.0
    """purchase: cost of a unit sold, for the price that earns most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRequest:
    """What was asked of a family.

    Attributes
    ----------
    family : str
    sales : SalesFlags
    roles : RoleFlags
    sampler : SamplerFlags
    flags : ChoiceFlags
    randomised_price : bool
    seed : int
    out : Path or None
        New folder for the fitted model.
    """

    family: Family
    sales: SalesFlags
    roles: RoleFlags
    sampler: SamplerFlags
    flags: ChoiceFlags
    randomised_price: bool
    seed: int
    out: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFamily:
    """The answer's parts before they are written down, and what is saved."""

    fitted: ChoiceFit
    document: dict[str, object]
    lines: list[str]
