"""What one run produced, gathered for a report: a part per question a reader asks, and nothing that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.assessment import Assessment
from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.identification import Identification
from bayes_pricing.errors import Finding
from bayes_pricing.pricing.decision import Action, Estimate, PriceDecision
from bayes_pricing.pricing.frontier import CautionCost, FrontierPoint
from bayes_pricing.reporting.marks import POSTERIOR, require_columns

Floats = NDArray[np.float64]

ELASTICITY_COLUMNS = (
    "level",
    "name",
    "mean",
    "sd",
    "lower",
    "upper",
    "probability",
    "probability_elastic",
    "own_data_weight",
    "prior_only",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of a fact list: a label, and an estimate with its unit or a plain text.

    Examples
    --------
    >>> Fact(label="Gain", value=Estimate(mean=84.0, lower=12.0, upper=190.0), unit="EUR per week").value.probability
    0.9
    """

    label: str
    value: Estimate | str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesPart:
    """What was sold, and whether it can answer: where it came from in words, and what the checks found."""

    source: str
    summary: PanelSummary
    assessment: Assessment
    identification: Identification

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings about the data's quality, then those about what they can identify."""
        return (*self.assessment.findings, *self.identification.findings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandPart:
    """What price does to demand.

    Attributes
    ----------
    model, why : str
        The model in words, and the reason for it as the end of a sentence: "chosen because ...".
    elasticities, variation : DataFrame
        As :func:`bayes_pricing.demand.elasticity.elasticity_table` and
        :func:`bayes_pricing.demand.elasticity.variation_table` give them.
    truth : DataFrame or None
        Columns ``level, name, elasticity``, where the market is simulated.
    revenue_change : mapping of name to array (draws,)
        Relative change of revenue under a price rise of 10 %, e.g. before and after the data; empty for none.
    """

    model: str
    why: str
    elasticities: pl.DataFrame
    variation: pl.DataFrame
    truth: pl.DataFrame | None = None
    revenue_change: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_columns(self.elasticities, ELASTICITY_COLUMNS, "DemandPart.elasticities")
        if self.truth is not None:
            require_columns(self.truth, ("level", "name", "elasticity"), "DemandPart.truth")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaselinePart:
    """How others would have answered.

    Attributes
    ----------
    design : str
        How the scores were made, in words (origins, horizon).
    scores : DataFrame
        One row per estimator and origin, as :func:`bayes_pricing.baselines.evaluation.evaluate` gives them.
    elasticities : DataFrame or None
        As :func:`bayes_pricing.baselines.evaluation.compare_elasticities` gives them.
    ours : str
        Name under which the reported model itself stands in these tables, if it does.
    """

    design: str
    scores: pl.DataFrame
    elasticities: pl.DataFrame | None = None
    ours: str = POSTERIOR

    def __post_init__(self) -> None:
        require_columns(self.scores, ("estimator", "seconds"), "BaselinePart.scores")
        if self.elasticities is not None:
            needed = ("estimator", "level", "name", "mean", "lower", "upper")
            require_columns(self.elasticities, needed, "BaselinePart.elasticities")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceCurve:
    """What one item would bring at every price.

    Attributes
    ----------
    points : DataFrame
        Columns ``price`` (in `price_unit`), ``mean, lower, upper`` (in `unit`); lower and upper hold `probability`.
    current_price, recommended_price : float
    lowest_price, highest_price : float
        Ends of the prices seen in the data; beyond them the curve is extrapolation.
    outcome, unit, price_unit : str
        e.g. ``profit``, ``EUR per week``, ``EUR per unit``.
    probability : float in (0, 1)
    joint : bool
        The curve is that of the item's whole category, the other prices as decided.

    Raises
    ------
    SpecError
        If a column is absent or there are no points.
    """

    points: pl.DataFrame
    current_price: float
    recommended_price: float
    lowest_price: float
    highest_price: float
    outcome: str = "profit"
    unit: str = "currency per period"
    price_unit: str = "currency per unit"
    probability: float = 0.9
    joint: bool = False

    def __post_init__(self) -> None:
        require_columns(self.points, ("price", "mean", "lower", "upper"), "PriceCurve.points")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemStory:
    """What is to be done about one item's price and why: in a headline, a paragraph, facts and a curve.

    Attributes
    ----------
    item, headline, paragraph : str
    curve : PriceCurve
    action : {"change", "hold", "test_first", "refused"}
    facts : tuple of Fact
        Today's price and the new one, what holds it and what that costs.
    full : tuple of str
        The whole explanation, a paragraph each; empty for none.
    """

    item: str
    headline: str
    paragraph: str
    curve: PriceCurve
    action: Action = "change"
    facts: tuple[Fact, ...] = ()
    full: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionPart:
    """What to charge and why.

    Attributes
    ----------
    decision : PriceDecision
    stories : tuple of ItemStory
        In the order they are to be told.
    frontier : tuple of FrontierPoint
        Expected gain for every risk, the boldest first; empty for none.
    caution : tuple of CautionCost
        What each risk limit of the decision costs.
    """

    decision: PriceDecision
    stories: tuple[ItemStory, ...] = ()
    frontier: tuple[FrontierPoint, ...] = ()
    caution: tuple[CautionCost, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTestPart:
    """The price test most worth running, in words and as facts."""

    item: str
    headline: str
    paragraph: str
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrustPart:
    """Whether the numbers can be trusted: the gate, and probability integral transforms, array (rows,), if known."""

    diagnostics: Diagnostics
    pit: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What it takes to get the same report again."""

    model_id: str
    seed: int
    created: str
    versions: Mapping[str, str]
    seconds: Mapping[str, float]
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Everything one run has to say; parts that a run did not reach are None.

    Attributes
    ----------
    title, question : str
        The question in the words of the person who asked.
    period : str
        What a period is called, e.g. ``week``; the currency stands in the decision's economics.
    sales, demand, baselines, decision, test, trust, provenance
        One part per question a reader asks, in the order of the report.
    items_file : str
        Where all items can be read, for a portfolio larger than the report's table; empty if nowhere.
    """

    title: str
    question: str
    period: str
    sales: SalesPart
    demand: DemandPart
    trust: TrustPart
    provenance: Provenance
    baselines: BaselinePart | None = None
    decision: DecisionPart | None = None
    test: PriceTestPart | None = None
    items_file: str = ""
