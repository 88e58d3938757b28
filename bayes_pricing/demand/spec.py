"""What is assumed about demand: one frozen value, checked once, the same for the tree and for PyMC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bayes_pricing.errors import SpecError

Likelihood = Literal["lognormal", "poisson", "negative_binomial"]
NoiseBy = Literal["common", "category", "item"]
ErrorLaw = Literal["gaussian", "student_t"]
Correlated = Literal["all", "price"]
PriceCurveForm = Literal["constant", "quadratic", "saturating"]

CROSS_PRICE = "cross_price"
"""Item-level column: the sum of the log prices of the category's other items; its effect is their mean elasticity."""

PROMOTION = "promotion"
"""Item-level column: log (list price / price)."""

PRICE_DRIFT = "price_drift"
"""Item-level column: log price, less its reference, times time; time runs from -1 in the first period to 0 in the last,
so that the elasticity is that of the last period."""

PRICE_CURVE = "price_curve"
r"""Item-level column, of :math:`x`, log price less its reference: :math:`x^2`, or where the elasticity saturates
:math:`(2 / s) \log \cosh(s x / 2)`."""

UNCENTRED = (PRICE_DRIFT, PRICE_CURVE)
"""Columns from which an item's mean is not taken: they are zero at the reference price."""

PRICE_FALL = "price_fall"
"""Item-level column: log price of the period before, less log price."""

TREND = "trend"
"""Shared column: time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    r"""Prior distributions in economic units.

    The population mean of the own-price elasticity and the spread between categories and between items share one
    literature figure: Bijmolt, van Heerde & Pieters (2005) report a mean of -2.62 over 1,851 estimates, 81 % of them
    in [-4, 0], which is a total standard deviation of about 1.4 for any one elasticity:

    .. math:: 1.4^2 \approx 1.0^2 + 0.7^2 + 0.7^2

    (population mean, half-normal between categories, half-normal between items). A level that is dropped gives its
    variance to the next one up. Every ``*_scale`` is the scale of a half-normal prior on a standard deviation;
    correlations between coefficients of one unit have an LKJ prior.

    Attributes
    ----------
    elasticity_mean, elasticity_sd : float
        Normal prior of the population mean of d log units / d log price.
    elasticity_between_groups, elasticity_between_items : float
        Half-normal scales of the between-unit sd, at each nesting level above the item and at the item.
    level_mean : float or None
        Prior mean of the population mean of log units at the reference price; None takes the data's own mean.
    level_sd : float
        Prior sd of the population mean of log units at the reference price, around `level_mean`.
    level_between_groups, level_between_items : float
        Half-normal scales of the between-unit sd of log units.
    control_sd, control_between : float
        Prior sd of a control's mean effect and half-normal scale of its between-unit sd, in log units per
        within-item standard deviation of the control.
    cross_price_mean, cross_price_sd, cross_price_between, cross_price_deviation : float
        Normal prior of the population mean of d log units / d log price of another item of the category, half-normal
        scales of the sd of that mean between units (at each level), and of single pairs around their item's mean.
        Auer & Papies (2020) report a mean of 0.26 over 7,264 estimates.
    attribute_elasticity_sd, attribute_level_sd : float
        Normal prior sd (around zero) of how far the elasticity, and log units, of two items lie apart whose attribute
        is one standard deviation apart (for an attribute with two values: half the way between them). 0.5 is half of
        the spread between items of all categories; findings of Bijmolt et al. on what moves elasticities are as large.
    drift_sd, drift_between : float
        Normal prior sd (around zero) of the population mean, and half-normal scale of the between-unit sd, of how far
        the elasticity moves from the first to the last period of the sales.
    curve_sd, curve_between : float
        The same of the coefficient of squared log price; the elasticity changes by twice it per unit of log price, so
        0.5 lets it change by about 0.1 when the price rises by 10 %. Of a saturating curve: of half the distance
        between its two limits, an elasticity.
    response_sd, response_between : float
        Normal prior sd (around zero) of the population mean, and half-normal scale of the between-unit sd, of what a
        promotion or a fall of the price adds: elasticities like the own, so in their unit.
    noise_scale : float
        Half-normal scale of the residual sd of log units.
    noise_spread_scale : float
        Half-normal scale of the sd of log residual sd between items of one category.
    correlation_concentration : float
        LKJ concentration; 1 is uniform over correlation matrices, more pulls to independence.

    References
    ----------
    Bijmolt, van Heerde & Pieters (2005), "New empirical generalizations on the determinants of price elasticity",
    J. Marketing Research 42(2). Auer & Papies (2020), "Cross-price elasticities and their determinants: a
    meta-analysis and new empirical generalizations", J. Academy of Marketing Science 48.

    Examples
    --------
    >>> priors = Priors()
    >>> round((priors.elasticity_sd**2 + priors.elasticity_between_groups**2
    ...        + priors.elasticity_between_items**2) ** 0.5, 1)
    1.4
    """

    elasticity_mean: float = -2.62
    elasticity_sd: float = 1.0
    elasticity_between_groups: float = 0.7
    elasticity_between_items: float = 0.7
    level_mean: float | None = None
    level_sd: float = 5.0
    level_between_groups: float = 2.0
    level_between_items: float = 2.0
    control_sd: float = 2.0
    control_between: float = 1.0
    cross_price_mean: float = 0.26
    cross_price_sd: float = 0.3
    cross_price_between: float = 0.2
    cross_price_deviation: float = 0.3
    attribute_elasticity_sd: float = 0.5
    attribute_level_sd: float = 1.0
    drift_sd: float = 0.7
    drift_between: float = 0.3
    curve_sd: float = 0.5
    curve_between: float = 0.3
    response_sd: float = 1.0
    response_between: float = 0.5
    noise_scale: float = 1.0
    noise_spread_scale: float = 0.5
    correlation_concentration: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "level_mean" and value is None:
                continue
            if name.endswith("_mean") and not abs(value) < float("inf"):
                raise SpecError(f"Priors.{name} is {value}; a prior mean must be finite.")
            if not name.endswith("_mean") and not 0 < value < float("inf"):
                raise SpecError(f"Priors.{name} is {value}; a prior scale must be positive and finite.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSpec:
    r"""What is assumed about demand; nothing about data or sampling.

    .. math:: \log E[q_{it}] = \alpha_i + \varepsilon_i (\log p_{it} - \overline{\log p}_i)
              + \beta_i' c_{it} + \gamma' z_{it} + \log(\text{exposure}_{it})

    with :math:`(\alpha_i, \varepsilon_i, \beta_i)` jointly normal around the mean of the item's category, that mean
    around its own parent's, up to the population.

    Attributes
    ----------
    likelihood : str
        ``lognormal`` (log units with Gaussian errors), ``poisson`` or ``negative_binomial``.
    levels : tuple of str
        Nesting levels above the item, inner first, e.g. ``("category", "department")``; empty for none.
    controls : tuple of str
        Columns whose effect may differ by item.
    shared_controls : tuple of str
        Columns with one effect for all items.
    attributes : tuple of str
        What explains the items' levels and elasticities: :math:`\alpha_i` and :math:`\varepsilon_i` then are the
        deviations from :math:`\delta'a_i` and :math:`\gamma'a_i`, attributes taken from their mean over items.
    correlated : str
        Which coefficients of one unit correlate around their parent: ``all``, or only level and own price (``price``),
        which samples faster where there are many controls.
    cross_prices : str or None
        Level inside whose units the items' prices act on each other (``population``: all items); None for none.
    others : int
        With `cross_prices`: other items of the largest such unit.
    steepness : float
        How fast a saturating elasticity goes from one limit to the other, :math:`s` per unit of log price, taken as
        known; 0 where the curve of the price is quadratic or there is none.
    autocorrelation : float
        First-order autocorrelation of an item's residuals in consecutive periods, taken as known; 0 for none.
    noise_by : str
        Residual variance ``common``, by (innermost) ``category`` or by ``item`` around its category's; counts
        ignore it.
    errors : str
        Law of log-normal models' errors: ``gaussian``, or ``student_t`` where single weeks are far off.
    priors : Priors

    Examples
    --------
    >>> DemandSpec(likelihood="poisson", levels=("category",)).coefficients
    ('level', 'log_price')
    """

    likelihood: Likelihood = "lognormal"
    levels: tuple[str, ...] = ("category",)
    controls: tuple[str, ...] = ()
    shared_controls: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    correlated: Correlated = "all"
    cross_prices: str | None = None
    others: int = 0
    steepness: float = 0.0
    autocorrelation: float = 0.0
    noise_by: NoiseBy = "common"
    errors: ErrorLaw = "gaussian"
    priors: Priors = field(default_factory=Priors)

    def __post_init__(self) -> None:
        if self.errors not in ("gaussian", "student_t") or (
            self.errors != "gaussian" and self.likelihood != "lognormal"
        ):
            raise SpecError(
                f"DemandSpec.errors is {self.errors!r}; choose gaussian or, for log-normal sales, student_t."
            )
        if self.likelihood not in ("lognormal", "poisson", "negative_binomial"):
            raise SpecError(
                f"DemandSpec.likelihood is {self.likelihood!r}; choose lognormal, poisson or negative_binomial."
            )
        if self.noise_by not in ("common", "category", "item"):
            raise SpecError(f"DemandSpec.noise_by is {self.noise_by!r}; choose common, category or item.")
        if self.noise_by == "category" and not self.levels:
            raise SpecError("DemandSpec.noise_by is 'category' but there is no category level; use 'common' or 'item'.")
        names = ("item", "population", *self.levels)
        if len(set(names)) < len(names):
            raise SpecError(
                f"DemandSpec.levels is {self.levels}; names must differ and be neither 'item' nor 'population'."
            )
        both = set(self.controls) & set(self.shared_controls)
        if both:
            raise SpecError(f"Controls {sorted(both)} are both item-level and shared; name each once.")
        if self.correlated not in ("all", "price"):
            raise SpecError(f"DemandSpec.correlated is {self.correlated!r}; choose all or price.")
        if not abs(self.autocorrelation) < 1 or (self.autocorrelation and self.likelihood != "lognormal"):
            raise SpecError(
                f"DemandSpec.autocorrelation is {self.autocorrelation}; it must be inside (-1, 1), and 0 for counts."
            )
        if not 0 <= self.steepness < float("inf") or (self.steepness and not self.curved):
            raise SpecError(
                f"DemandSpec.steepness is {self.steepness}; it must be positive and finite, and 0 without the control "
                f"{PRICE_CURVE!r}."
            )
        self._check_cross_prices()

    def _check_cross_prices(self) -> None:
        if self.cross_prices is None:
            if self.others:
                raise SpecError("DemandSpec.others counts the prices of cross_prices; leave it out without them.")
            return
        if self.cross_prices not in (*self.levels, "population"):
            raise SpecError(f"DemandSpec.cross_prices is {self.cross_prices!r}; choose a level above the item.")
        if CROSS_PRICE not in self.controls or not self.others > 0:
            raise SpecError(f"Cross prices need the control {CROSS_PRICE!r} and at least one other.")

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients that units of every level have: ``level``, ``log_price``, then the controls."""
        return ("level", "log_price", *self.controls)

    @property
    def deviations(self) -> tuple[str, ...]:
        """Columns of the other items' log prices; an item's effects of them are deviations from its mean of them."""
        return tuple(f"other_{number}" for number in range(1, self.others + 1))

    @property
    def item_coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients every item has: those of every level, then the deviations."""
        return (*self.coefficients, *self.deviations)

    @property
    def attribute_levels(self) -> tuple[str, ...]:
        """Columns through which attributes move log units."""
        return tuple(f"{name}:level" for name in self.attributes)

    @property
    def attribute_prices(self) -> tuple[str, ...]:
        """Columns through which attributes move the elasticity."""
        return tuple(f"{name}:log_price" for name in self.attributes)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the Gram statistics: item-level coefficients, then what is common to all items."""
        return (*self.item_coefficients, *self.shared_controls, *self.attribute_levels, *self.attribute_prices)

    @property
    def centred(self) -> tuple[str, ...]:
        """Those of :attr:`columns` from which each item's mean is taken."""
        apart = {"level", *self.attribute_levels, *UNCENTRED}
        return tuple(name for name in self.columns if name not in apart)

    @property
    def curved(self) -> bool:
        """Whether the elasticity changes with price."""
        return PRICE_CURVE in self.controls

    @property
    def price_curve(self) -> PriceCurveForm:
        """How the elasticity changes with price: not (``constant``), ``quadratic`` or ``saturating``."""
        if not self.curved:
            return "constant"
        return "saturating" if self.steepness else "quadratic"

    @property
    def all_levels(self) -> tuple[str, ...]:
        """Every level from the item up: ``("item", ..., "population")``."""
        return ("item", *self.levels, "population")
