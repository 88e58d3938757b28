"""What one run produced, gathered for a report: a part per question a reader asks, and nothing that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.reporting.marks import require_columns

Floats = NDArray[np.float64]

OUTCOMES = ("revenue", "profit", "units")
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
ITEM_COLUMNS = (
    "item",
    "action",
    "current_price",
    "recommended_price",
    *(f"{outcome}_{part}" for outcome in OUTCOMES for part in ("mean", "lower", "upper")),
    "probability",
    "probability_better",
    "expected_regret",
    "binding",
    "reason",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimated number with its interval, the interval's level, and its unit.

    Examples
    --------
    >>> Estimate(mean=120.0, lower=-10.0, upper=250.0, unit="EUR per week").probability
    0.9
    """

    mean: float
    lower: float
    upper: float
    unit: str
    probability: float = 0.9

    def __post_init__(self) -> None:
        if not self.lower <= self.upper:
            raise SpecError(f"Estimate has the interval [{self.lower}, {self.upper}]; its lower end must come first.")
        if not 0 < self.probability < 1:
            raise SpecError(f"Estimate.probability is {self.probability}; it must lie between 0 and 1 (0.9 is usual).")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score of the assessment: its name, its value from 0 to 100 (None: not assessed), and what lies behind it."""

    name: str
    value: float | None
    finding: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesPart:
    """What was sold, and whether it can answer.

    Attributes
    ----------
    source : str
        Where the sales came from, in words.
    summary : PanelSummary
    scores : tuple of Score
    identification : DataFrame or None
        Columns ``status, items, meaning``: how many items the data alone can and cannot speak of.
    findings : tuple of Finding
    """

    source: str
    summary: PanelSummary
    scores: tuple[Score, ...] = ()
    identification: pl.DataFrame | None = None
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.identification is not None:
            require_columns(self.identification, ("status", "items", "meaning"), "SalesPart.identification")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandPart:
    """What price does to demand.

    Attributes
    ----------
    model, why : str
        The model in words and why it was chosen.
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
        Columns ``estimator, score, unit, value, lower_is_better``; the model itself is the estimator ``this model``.
    elasticities : DataFrame or None
        Columns ``estimator, level, name, mean, lower, upper``.
    """

    design: str
    scores: pl.DataFrame
    elasticities: pl.DataFrame | None = None

    def __post_init__(self) -> None:
        needed = ("estimator", "score", "unit", "value", "lower_is_better")
        require_columns(self.scores, needed, "BaselinePart.scores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One outcome of the whole portfolio per period: today, as recommended, and the change on the same draws."""

    outcome: str
    today: Estimate
    recommended: Estimate
    change: Estimate
    probability_better: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemStory:
    """Why one item's price should move, in words and as a curve.

    Attributes
    ----------
    item, headline, paragraph : str
    curve : DataFrame
        Columns ``price, mean, lower, upper`` of the objective.
    current_price, recommended_price, lowest_price, highest_price : float
        Currency per unit; the last two are the ends of the prices seen.
    """

    item: str
    headline: str
    paragraph: str
    curve: pl.DataFrame
    current_price: float
    recommended_price: float
    lowest_price: float
    highest_price: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionPart:
    """What to charge and why.

    Attributes
    ----------
    objective : str
        ``revenue``, ``profit`` or ``units``.
    limits : tuple of str
        Every limit that held, in words.
    items : DataFrame
        One row per item with `ITEM_COLUMNS` (changes of revenue, profit and units per period against today) and
        optionally ``elasticity``; ``binding`` and ``reason`` are text or null.
    totals : tuple of Total
    change : array (draws,)
        Change of the objective of the whole portfolio per period on joint draws.
    expected_shortfall : float
        Mean loss over the worst 5 % of draws; positive is a loss.
    upper_bound, gap : float
        Best objective change any prices within the limits could bring, and the share of it left on the table at most.
    engine : str
    feasible : bool
        Recomputed from the prices.
    horizon, data_until, stale_after : str
        In words or as dates.
    shadow_prices : mapping
        Worth of one unit more of each binding limit.
    stories : tuple of ItemStory
        The boldest change first.
    """

    objective: str
    limits: tuple[str, ...]
    items: pl.DataFrame
    totals: tuple[Total, ...]
    change: Floats
    expected_shortfall: float
    upper_bound: float
    gap: float
    engine: str
    feasible: bool
    horizon: str
    data_until: str
    stale_after: str
    shadow_prices: Mapping[str, float] = field(default_factory=dict)
    stories: tuple[ItemStory, ...] = ()

    def __post_init__(self) -> None:
        if self.objective not in OUTCOMES:
            raise SpecError(f"DecisionPart.objective is {self.objective!r}; choose one of {', '.join(OUTCOMES)}.")
        require_columns(self.items, ITEM_COLUMNS, "DecisionPart.items")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTestPart:
    """The price test most worth running: in words, and as facts (an estimate, or a plain text with its unit)."""

    item: str
    headline: str
    paragraph: str
    facts: tuple[tuple[str, Estimate | str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrustPart:
    """Whether the numbers can be trusted.

    Attributes
    ----------
    diagnostics : Diagnostics
    coverage : DataFrame or None
        Columns ``estimator, probability, coverage``.
    pit : array (rows,) or None
        Probability integral transforms of a sample of sales rows.
    """

    diagnostics: Diagnostics
    coverage: pl.DataFrame | None = None
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
    currency, period : str
        Names of the units, e.g. ``tokens`` and ``week``.
    sales, demand, baselines, decision, test, trust, provenance
        One part per question a reader asks, in the order of the report.
    items_file : str
        Where all items can be read, for a portfolio larger than the report's table; empty if nowhere.
    """

    title: str
    question: str
    currency: str
    period: str
    sales: SalesPart
    demand: DemandPart
    trust: TrustPart
    provenance: Provenance
    baselines: BaselinePart | None = None
    decision: DecisionPart | None = None
    test: PriceTestPart | None = None
    items_file: str = ""

    @property
    def money_unit(self) -> str:
        """Unit of money per period, e.g. ``tokens per week``."""
        return f"{self.currency} per {self.period}"

    def unit_of(self, outcome: str) -> str:
        """Unit of an outcome per period: units for ``units``, money otherwise."""
        return f"units per {self.period}" if outcome == "units" else self.money_unit
