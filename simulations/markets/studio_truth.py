"""The known truth of a fitness studio: expected revenue at any levers, its derivatives, the best accuracy there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bayes_pricing.errors import SpecError
from simulations.markets.truth_file import read_truth_file, write_truth_file

Floats = NDArray[np.float64]

LEVERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "retention": (0.5, 1.0),
        "ticket": (50.0, 500.0),
        "attendance": (0.4, 1.0),
        "new_members": (0.0, 100.0),
        "staff_utilisation": (0.6, 1.0),
        "upsell": (0.0, 0.5),
        "classes": (50.0, 500.0),
    }
)
"""The seven levers and their ranges; beside them stands ``members``, the number at the start of the month."""

NOISE_SD = 0.05
"""Sd of log revenue around its expectation, fixed once, so that accuracy can be compared between versions."""

VISITS = 8.0
"""Visits a month of a member who misses none."""

SEATS = 15.0
"""Visits that a class holds at full use of staff."""

CROWDING = 4.0
"""How sharply visits stop growing where they reach what the classes hold."""

TICKET_RESPONSE = 0.3
"""Elasticity, taken as positive, of paid visits to the ticket."""

USUAL_TICKET = 150.0
"""Currency per member and month at which that response is 1."""

UPSELL_VALUE = 0.6
"""Revenue beside the ticket, as a share of it, per unit of upsell."""

NODES = 400
_FORMAT = "studio-truth/1"
_RANGES: dict[str, tuple[float, float, str]] = {
    "studios": (1, 1_000, "studios"),
    "months": (6, 600, "months of each"),
    "members": (20, 10_000, "members at the start"),
    "level_sd": (0.0, 1.0, "sd of log revenue between studios at equal levers"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudioSettings:
    """Size of a simulated panel of fitness studios; ranges are checked when it is made.

    Attributes
    ----------
    studios, months : int
        Studios, and months of each.
    members : int
        Members of each studio at the start.
    level_sd : float
        Sd of log revenue between studios at equal levers.
    first_month : date

    Raises
    ------
    SpecError
        If a field is outside its range.

    Examples
    --------
    >>> StudioSettings().months
    48
    """

    studios: int = 8
    months: int = 48
    members: int = 400
    level_sd: float = 0.15
    first_month: date = date(2022, 1, 1)

    def __post_init__(self) -> None:
        for name, (lowest, highest, meaning) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SpecError(f"StudioSettings.{name} is {value}; choose {lowest} to {highest} ({meaning}).")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudioTruth:
    r"""Everything that decides expected revenue of a studio in a month.

    With M the members of the month, D the visits they want, C the visits the classes hold, and S those that take place

    .. math:: M = m\,r + n, \quad D = v\,a\,M, \quad C = s\,u\,c, \quad S = D\,\bigl(1 + (D / C)^k\bigr)^{-1/k}

    .. math:: E[R] = e^{\lambda}\, p\,\Bigl(\frac{p}{p_0}\Bigr)^{-\eta} \frac{S}{v}\,(1 + \omega\,x)

    for members m at the start, retention r, new members n, attendance a, staff utilisation u, classes c, ticket p,
    upsell x, and a studio's level :math:`\lambda`. Revenue is log-normal around this mean with sd `NOISE_SD`.

    Attributes
    ----------
    settings : StudioSettings
    seed : int
    studios : tuple of str, sorted
    level : array (studio,)
        Log of a studio's revenue over that of the usual one at equal levers.

    Examples
    --------
    >>> truth = draw_studio(StudioSettings(), 1, np.random.default_rng(1))
    >>> truth.studios[0], truth.level.shape
    ('studio-1', (8,))
    """

    settings: StudioSettings
    seed: int
    studios: tuple[str, ...]
    level: Floats

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


def draw_studio(settings: StudioSettings, seed: int, rng: np.random.Generator) -> StudioTruth:
    """Draw the studios' levels.

    Examples
    --------
    >>> draw_studio(StudioSettings(studios=2), 1, np.random.default_rng(1)).studios
    ('studio-1', 'studio-2')
    """
    width = len(str(settings.studios))
    names = tuple(f"studio-{n + 1:0{width}d}" for n in range(settings.studios))
    return StudioTruth(
        settings=settings, seed=seed, studios=names, level=rng.normal(0, settings.level_sd, settings.studios)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Month:
    """The pieces of expected revenue, one entry per row."""

    value: Mapping[str, Floats]
    level: Floats
    active: Floats
    wanted: Floats
    held: Floats

    @classmethod
    def of(cls, truth: StudioTruth, levers: pl.DataFrame) -> _Month:
        needed = ["studio", *LEVERS, "members"]
        absent = [name for name in needed if name not in levers.columns]
        if absent:
            raise SpecError(f"Levers lack the columns {absent}; needed are {needed}.")
        unknown = sorted(set(levers["studio"]) - set(truth.studios))
        if unknown:
            raise SpecError(f"There are no studios {unknown[:3]}; known are {truth.studios[0]} to {truth.studios[-1]}.")
        for name, (lowest, highest) in {**LEVERS, "members": (0.0, np.inf)}.items():
            outside = levers.filter(~pl.col(name).is_between(lowest, highest).fill_null(False))
            if outside.height:
                raise SpecError(f"{name} is {outside[name][0]} in a row; it lies between {lowest} and {highest}.")
        value = {name: levers[name].cast(pl.Float64).to_numpy() for name in (*LEVERS, "members")}
        place = {name: number for number, name in enumerate(truth.studios)}
        active = value["members"] * value["retention"] + value["new_members"]
        return cls(
            value=value,
            level=truth.level[[place[name] for name in levers["studio"]]],
            active=active,
            wanted=VISITS * value["attendance"] * active,
            held=SEATS * value["staff_utilisation"] * value["classes"],
        )

    @property
    def crowding(self) -> Floats:
        """Share by which visits still follow the wish for them: d log S / d log D."""
        share: Floats = 1 / (1 + (self.wanted / self.held) ** CROWDING)
        return share

    @property
    def per_member(self) -> Floats:
        """Expected revenue per visiting member at full attendance: everything but visits."""
        ticket = self.value["ticket"]
        paid = ticket * (ticket / USUAL_TICKET) ** -TICKET_RESPONSE
        per: Floats = np.exp(self.level) * paid * (1 + UPSELL_VALUE * self.value["upsell"])
        return per

    @property
    def revenue(self) -> Floats:
        """Expected revenue."""
        expected: Floats = self.per_member * self.wanted / VISITS * self.crowding ** (1 / CROWDING)
        return expected


def expected_revenue(truth: StudioTruth, levers: pl.DataFrame) -> Floats:
    """Expected revenue of each row in currency per month.

    Parameters
    ----------
    truth : StudioTruth
    levers : DataFrame
        `studio`, the seven levers in their ranges, and `members` at the start of the month.

    Raises
    ------
    SpecError
        If a column is absent, a studio unknown, or a value outside its range.

    Examples
    --------
    >>> truth = draw_studio(StudioSettings(level_sd=0.0), 1, np.random.default_rng(1))
    >>> month = pl.DataFrame({"studio": ["studio-1"], "retention": [0.9], "ticket": [150.0], "attendance": [0.5],
    ...                       "new_members": [40], "staff_utilisation": [1.0], "upsell": [0.0], "classes": [500],
    ...                       "members": [400]})
    >>> round(float(expected_revenue(truth, month)[0]))  # 400 members, half of their visits, the classes hold them all
    29984
    """
    return _Month.of(truth, levers).revenue


def revenue_derivatives(truth: StudioTruth, levers: pl.DataFrame) -> pl.DataFrame:
    r"""Derivative of expected revenue in each lever, one row per row of `levers`.

    With :math:`w = d \log S / d \log D = 1 / (1 + (D/C)^k)` the derivative is, for example,
    :math:`w R\, m / M` in retention and :math:`(1 - w) R / c` in classes.

    Returns
    -------
    DataFrame
        A column per lever and ``members``, in currency per month and unit of the lever; positive earns.

    Examples
    --------
    >>> truth = draw_studio(StudioSettings(), 1, np.random.default_rng(1))
    >>> month = pl.DataFrame({"studio": ["studio-1"], "retention": [0.9], "ticket": [150.0], "attendance": [0.5],
    ...                       "new_members": [0], "staff_utilisation": [1.0], "upsell": [0.0], "classes": [500],
    ...                       "members": [400]})
    >>> slope = revenue_derivatives(truth, month)["ticket"].item()
    >>> up, down = (expected_revenue(truth, month.with_columns(ticket=150.0 + step))[0] for step in (0.01, -0.01))
    >>> bool(abs((up - down) / 0.02 / slope - 1) < 1e-6)
    True
    """
    month = _Month.of(truth, levers)
    revenue, w, value = month.revenue, month.crowding, month.value
    per_active = w * revenue / month.active
    return pl.DataFrame(
        {
            "retention": per_active * value["members"],
            "ticket": (1 - TICKET_RESPONSE) * revenue / value["ticket"],
            "attendance": w * revenue / value["attendance"],
            "new_members": per_active,
            "staff_utilisation": (1 - w) * revenue / value["staff_utilisation"],
            "upsell": UPSELL_VALUE * revenue / (1 + UPSELL_VALUE * value["upsell"]),
            "classes": (1 - w) * revenue / value["classes"],
            "members": per_active * value["retention"],
        }
    )


def oracle_scores(truth: StudioTruth, levers: pl.DataFrame) -> dict[str, float]:
    r"""Accuracy that expected revenue itself reaches on average, at the fixed noise: nobody does better for long.

    With :math:`R = \mu \varepsilon`, :math:`\log \varepsilon \sim N(-\sigma^2/2, \sigma^2)`,

    .. math:: \text{MAPE} = E\,|1/\varepsilon - 1|
              = 2 e^{\sigma^2} \Phi(\tfrac{3}{2}\sigma) - e^{\sigma^2} - 2 \Phi(\tfrac{1}{2}\sigma) + 1,

    R-squared is one minus expected squared error over expected total squares, and a direction is right where the
    prediction and the revenue lie on the same side of the revenue of the month before.

    Parameters
    ----------
    truth : StudioTruth
    levers : DataFrame
        As in :func:`expected_revenue`, with `month`; sorted here by studio and month.

    Returns
    -------
    dict
        ``mape`` and ``direction`` as shares, ``r_squared`` (over all rows).

    Examples
    --------
    >>> from simulations.markets.studio import simulate_studio
    >>> market = simulate_studio(StudioSettings(), seed=1)
    >>> scores = oracle_scores(market.truth, market.panel)
    >>> round(scores["mape"], 4), scores["r_squared"] > 0.9
    (0.04, True)
    """
    rows = levers.sort("studio", "month")
    mean, variance = expected_revenue(truth, rows), float(np.expm1(NOISE_SD**2))
    squares = float((mean**2).sum()) * variance
    total = float(((mean - mean.mean()) ** 2).sum()) + squares * (1 - 1 / mean.size)
    same = (rows["studio"].to_numpy()[1:] == rows["studio"].to_numpy()[:-1]).nonzero()[0]
    before = mean[same, None] * np.exp(NOISE_SD * ndtri((np.arange(NODES) + 0.5) / NODES) - NOISE_SD**2 / 2)
    now = mean[same + 1, None]
    above = 1 - ndtr((np.log(before / now) + NOISE_SD**2 / 2) / NOISE_SD)
    s = NOISE_SD
    return {
        "mape": float(2 * np.exp(s**2) * ndtr(1.5 * s) - np.exp(s**2) - 2 * ndtr(0.5 * s) + 1),
        "r_squared": 1 - squares / total,
        "direction": float(np.where(now > before, above, 1 - above).mean()),
    }


def revenue_scores(panel: pl.DataFrame, predicted: Floats) -> dict[str, float]:
    """Accuracy of predictions on a panel: the scores of :func:`oracle_scores`, as realised.

    Parameters
    ----------
    panel : DataFrame
        `studio`, `month`, `revenue`; sorted by studio and month.
    predicted : array (row,)
        Currency per month.

    Examples
    --------
    >>> panel = pl.DataFrame({"studio": ["a"] * 3, "month": [1, 2, 3], "revenue": [100.0, 200.0, 100.0]})
    >>> scores = revenue_scores(panel, np.array([100.0, 150.0, 150.0]))
    >>> scores["mape"], scores["direction"]
    (0.25, 1.0)
    """
    revenue = panel["revenue"].to_numpy()
    same = panel["studio"].to_numpy()[1:] == panel["studio"].to_numpy()[:-1]
    before = revenue[:-1][same]
    right = np.sign(predicted[1:][same] - before) == np.sign(revenue[1:][same] - before)
    return {
        "mape": float(np.abs(predicted / revenue - 1).mean()),
        "r_squared": float(1 - ((revenue - predicted) ** 2).sum() / ((revenue - revenue.mean()) ** 2).sum()),
        "direction": float(right.mean()),
    }


def write_studio_truth(truth: StudioTruth, path: Path) -> None:
    """Write the truth as JSON; every number is read back exactly.

    Examples
    --------
    >>> import tempfile
    >>> truth = draw_studio(StudioSettings(), 1, np.random.default_rng(1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_studio_truth(truth, Path(folder) / "truth.json")
    ...     bool((read_studio_truth(Path(folder) / "truth.json").level == truth.level).all())
    True
    """
    write_truth_file(truth, path, _FORMAT)


def read_studio_truth(path: Path) -> StudioTruth:
    """Read back what :func:`write_studio_truth` wrote.

    Raises
    ------
    StorageError
        If the file is missing, no JSON, or of another format.

    Examples
    --------
    >>> read_studio_truth(Path("nowhere.json"))
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: nowhere.json is no studio-truth/1 file: simulate the market again.
    """
    return read_truth_file(path, _FORMAT, StudioTruth, StudioSettings)
