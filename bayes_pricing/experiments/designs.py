"""How units get their arms: user split, item clusters, switchback, items by time; in whole weeks and blocks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.switchback import draw_switches, switch_points

Floats = NDArray[np.float64]
DesignKind = Literal["split", "clusters", "switchback", "items_by_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDesign:
    """Who gets which price when.

    Attributes
    ----------
    kind : str
        ``split``: units apart from each other (users). ``clusters``: whole clusters (categories, stores) keep one arm,
        which keeps substitutes together. ``switchback``: everybody has one arm, switching in time.
        ``items_by_time``: each item alternates, half of them in each arm at any time.
    arms : tuple of str
        Control first; two where prices alternate.
    weeks : int
        Whole weeks, so that every weekday counts alike.
    shares : tuple of float
        By arm, on any positive scale; equal where empty.
    units : tuple of str
        Units or clusters to assign; none for a switchback.
    blocks : tuple of str
        Block of each unit: arms are balanced inside it. One block where empty.
    periods_per_week : int
        7 for days, 1 for weeks.
    carryover : int
        Periods for which a price still shows after it is gone; the shortest stretch of one price.

    Examples
    --------
    >>> TestDesign(kind="switchback", arms=("today", "new"), weeks=4, periods_per_week=7, carryover=2).periods
    28
    """

    __test__ = False  # the name starts with Test; it is no test

    kind: DesignKind
    arms: tuple[str, ...]
    weeks: int
    shares: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    periods_per_week: int = 7
    carryover: int = 1

    def __post_init__(self) -> None:
        if len(self.arms) < 2 or len(set(self.arms)) < len(self.arms):
            raise SpecError(f"TestDesign.arms are {list(self.arms)}; give at least two names, each once.")
        if self.shares and (len(self.shares) != len(self.arms) or not all(share > 0 for share in self.shares)):
            raise SpecError(
                f"TestDesign.shares are {list(self.shares)}; give one over 0 for each of {len(self.arms)} arms."
            )
        if self.weeks < 1 or self.periods_per_week < 1 or self.carryover < 1:
            raise SpecError("TestDesign.weeks, periods_per_week and carryover are whole numbers, at least 1.")
        if self.blocks and len(self.blocks) != len(self.units):
            raise SpecError(f"TestDesign.blocks has {len(self.blocks)} entries for {len(self.units)} units.")
        if len(set(self.units)) < len(self.units):
            raise SpecError("TestDesign.units names a unit twice.")
        if self.kind in ("switchback", "items_by_time"):
            self._check_alternating()
        if self.kind in ("clusters", "items_by_time") and len(self.units) < 2 * len(self.arms):
            raise SpecError(
                f"TestDesign.units has {len(self.units)} entries; {self.kind!r} needs at least two for each arm."
            )

    def _check_alternating(self) -> None:
        if len(self.arms) != 2 or len(set(self.shares)) > 1:
            raise SpecError(f"{self.kind!r} alternates two arms with equal shares; give two and no shares.")
        if self.kind == "items_by_time" and (self.periods // self.carryover) % 2:
            raise SpecError(
                f"{self.periods} periods in stretches of {self.carryover} are an odd number of stretches; "
                "take an even one, so that every item has each price for as long."
            )
        if self.periods % self.carryover:
            raise SpecError(f"{self.periods} periods are no multiple of the carryover of {self.carryover}.")

    @property
    def periods(self) -> int:
        """Length in periods."""
        return self.weeks * self.periods_per_week


def draw_assignment(design: TestDesign, rng: np.random.Generator) -> pl.DataFrame:
    """Assign arms by chance.

    Parameters
    ----------
    design : TestDesign
    rng : Generator

    Returns
    -------
    DataFrame
        ``unit, arm`` for a split and for clusters: inside each block arms differ by at most one unit from their
        shares. ``period, arm`` for a switchback and ``unit, period, arm`` for items by time, periods from 1; there
        every item has each arm for half of its stretches, and half of a block's items (one more or less) have each
        arm in any period.

    References
    ----------
    Missault, Masoero, Delbé, Richardson & Imbens (2025), "Robust and efficient multiple-unit switchback
    experimentation", arXiv 2506.12654.

    Examples
    --------
    >>> design = TestDesign(kind="clusters", arms=("A", "B"), weeks=2, units=("c1", "c2", "c3", "c4", "c5", "c6"),
    ...                     blocks=("big", "big", "small", "small", "small", "small"))
    >>> drawn = draw_assignment(design, np.random.default_rng(1))
    >>> drawn.group_by("arm").len().sort("arm").rows()
    [('A', 3), ('B', 3)]
    """
    names = pl.Series(design.arms, dtype=pl.String)
    if design.kind == "switchback":
        points = switch_points(design.periods, design.carryover)
        arm = draw_switches(points, design.periods, rng).astype(np.int64)
        return pl.DataFrame({"period": np.arange(1, design.periods + 1), "arm": names.gather(arm)})
    if design.kind == "items_by_time":
        arm = _items_by_time(design, rng)
        units = np.repeat(np.array(design.units), design.periods)
        periods = np.tile(np.arange(1, design.periods + 1), len(design.units))
        return pl.DataFrame({"unit": units, "period": periods, "arm": names.gather(arm.ravel())})
    if not design.units:
        raise SpecError("TestDesign.units is empty; name the units, or use arm_of_unit for users who come by and by.")
    arm = np.empty(len(design.units), dtype=np.int64)
    for members in _members(design):
        arm[members] = _quota(len(members), _shares(design), rng)
    return pl.DataFrame({"unit": list(design.units), "arm": names.gather(arm)})


def arm_of_unit(design: TestDesign, unit: str, salt: str) -> str:
    """Arm of a user who comes by: always the same for the same user and salt, by chance over users.

    Parameters
    ----------
    design : TestDesign
        A split.
    unit : str
    salt : str
        Name of the test: another test with another salt splits the same users anew.

    Examples
    --------
    >>> design = TestDesign(kind="split", arms=("A", "B"), weeks=2, shares=(3.0, 1.0))
    >>> arms = [arm_of_unit(design, f"user {number}", "tea price") for number in range(4_000)]
    >>> arms == [arm_of_unit(design, f"user {number}", "tea price") for number in range(4_000)]
    True
    >>> abs(arms.count("B") - 1_000) < 90
    True
    """
    digest = hashlib.blake2b(unit.encode(), key=hashlib.blake2b(salt.encode()).digest(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2.0**64
    return design.arms[int(np.searchsorted(np.cumsum(_shares(design))[:-1], place, side="right"))]


def design_effect(cluster_size: float, intraclass_correlation: float, size_variation: float = 0.0) -> float:
    r"""How many times more units a test by cluster needs than one by unit.

    .. math:: 1 + ((cv^2 + 1)\, m - 1)\, \rho

    Parameters
    ----------
    cluster_size : float
        Mean units m of a cluster.
    intraclass_correlation : float in [0, 1]
        Likeness of units in one cluster (`intraclass_correlation`).
    size_variation : float
        Coefficient of variation of cluster sizes, zero where all are alike.

    References
    ----------
    Eldridge, Ashby & Kerry (2006), "Sample size for cluster randomized trials: effect of coefficient of variation of
    cluster size and analysis method", Int. J. Epidemiology 35.

    Examples
    --------
    >>> round(design_effect(50, 0.02), 4)
    1.98
    """
    if not (cluster_size >= 1 and 0 <= intraclass_correlation <= 1 and size_variation >= 0):
        raise SpecError(
            f"Cluster size {cluster_size}, intraclass correlation {intraclass_correlation}, size variation "
            f"{size_variation}: give at least 1, a share in [0, 1], and zero or more."
        )
    return 1.0 + ((size_variation**2 + 1.0) * cluster_size - 1.0) * intraclass_correlation


def intraclass_correlation(values: ArrayLike, cluster: ArrayLike) -> float:
    r"""Share of an outcome's variance that lies between clusters, from past data; zero where it would be negative.

    .. math:: \rho = \frac{MS_b - MS_w}{MS_b + (m_0 - 1) MS_w}

    References
    ----------
    Donner & Klar (2000), "Design and Analysis of Cluster Randomization Trials in Health Research".

    Examples
    --------
    >>> intraclass_correlation([1.0, 1.0, 5.0, 5.0, 9.0, 9.0], [0, 0, 1, 1, 2, 2])
    1.0
    """
    outcome = np.asarray(values, dtype=np.float64)
    codes = np.unique(np.asarray(cluster), return_inverse=True)[1]
    sizes = np.bincount(codes).astype(np.float64)
    groups, units = sizes.size, outcome.size
    if groups < 2 or units <= groups:
        raise SpecError(
            f"{units} values in {groups} clusters say nothing about likeness; some clusters need two values."
        )
    means = np.bincount(codes, weights=outcome) / sizes
    between = float((sizes * (means - outcome.mean()) ** 2).sum()) / (groups - 1)
    within = float(((outcome - means[codes]) ** 2).sum()) / (units - groups)
    typical = (units - float((sizes**2).sum()) / units) / (groups - 1)
    total = between + (typical - 1.0) * within
    return max((between - within) / total, 0.0) if total > 0 else 0.0


def _shares(design: TestDesign) -> Floats:
    shares = np.array(design.shares or (1.0,) * len(design.arms))
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def _members(design: TestDesign) -> list[NDArray[np.int64]]:
    """Places of the units of each block."""
    blocks = np.array(design.blocks or ("",) * len(design.units))
    return [np.flatnonzero(blocks == name) for name in np.unique(blocks)]


def _quota(units: int, shares: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Arms in shuffled order, each within one unit of its share; who gets the units left over is chance."""
    exact = units * shares
    counts = np.floor(exact).astype(np.int64)
    rest = exact - counts
    left = units - int(counts.sum())
    if left:
        counts[rng.choice(shares.size, size=left, replace=False, p=rest / rest.sum())] += 1
    return rng.permutation(np.repeat(np.arange(shares.size), counts))


def _items_by_time(design: TestDesign, rng: np.random.Generator) -> NDArray[np.int64]:
    """Arms by item and period: pairs of a block's items mirror each other, each balanced over time."""
    stretches = design.periods // design.carryover
    half = np.repeat([0, 1], stretches // 2)
    arm = np.empty((len(design.units), stretches), dtype=np.int64)
    for members in _members(design):
        shuffled = rng.permutation(members)
        for first in range(0, shuffled.size, 2):
            sequence = rng.permutation(half)
            arm[shuffled[first]] = sequence
            if first + 1 < shuffled.size:
                arm[shuffled[first + 1]] = 1 - sequence
    return np.repeat(arm, design.carryover, axis=1)
