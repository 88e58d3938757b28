"""What is assumed about demand: one frozen value, checked once, the same for the tree and for PyMC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bayes_pricing.errors import SpecError

Likelihood = Literal["lognormal", "poisson", "negative_binomial"]
NoiseBy = Literal["common", "category", "item"]


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
    level_sd : float
        Prior sd of the population mean of log units at the reference price, around the data's own mean.
    level_between_groups, level_between_items : float
        Half-normal scales of the between-unit sd of log units.
    control_sd, control_between : float
        Prior sd of a control's mean effect and half-normal scale of its between-unit sd, in log units per
        within-item standard deviation of the control.
    noise_scale : float
        Half-normal scale of the residual sd of log units.
    noise_spread_scale : float
        Half-normal scale of the sd of log residual sd between items of one category.
    correlation_concentration : float
        LKJ concentration; 1 is uniform over correlation matrices, more pulls to independence.

    References
    ----------
    Bijmolt, van Heerde & Pieters (2005), "New empirical generalizations on the determinants of price elasticity",
    J. Marketing Research 42(2).

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
    level_sd: float = 5.0
    level_between_groups: float = 2.0
    level_between_items: float = 2.0
    control_sd: float = 2.0
    control_between: float = 1.0
    noise_scale: float = 1.0
    noise_spread_scale: float = 0.5
    correlation_concentration: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "elasticity_mean" and not 0 < value < float("inf"):
                raise SpecError(f"Priors.{name} is {value}; a prior scale must be positive and finite.")
        if not abs(self.elasticity_mean) < float("inf"):
            raise SpecError(f"Priors.elasticity_mean is {self.elasticity_mean}; it must be finite (-2.62 is usual).")


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
    noise_by : str
        Residual variance ``common``, by (innermost) ``category`` or by ``item`` around its category's; counts
        ignore it.
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
    noise_by: NoiseBy = "common"
    priors: Priors = field(default_factory=Priors)

    def __post_init__(self) -> None:
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

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the coefficients every item has: ``level``, ``log_price``, then the controls."""
        return ("level", "log_price", *self.controls)

    @property
    def all_levels(self) -> tuple[str, ...]:
        """Every level from the item up: ``("item", ..., "population")``."""
        return ("item", *self.levels, "population")
