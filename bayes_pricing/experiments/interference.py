"""Which design to trust where items take buyers from each other: bias and power by playing every design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.clusters import cluster_difference
from bayes_pricing.experiments.designs import DesignKind, TestDesign, draw_assignment
from bayes_pricing.experiments.effects import ArmSummary, Contrast, difference_in_means, quantile
from bayes_pricing.experiments.two_way import two_way_contrasts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

KINDS: tuple[DesignKind, ...] = get_args(DesignKind)
TODAY, NEW = "today", "new"
_MOST_TOSSES = 100


class PriceResponse(Protocol):
    """How sales answer to which items have their new price: the fitted model, or a simulated market's truth."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Group of each item; items take buyers from each other inside it."""
        ...

    @property
    def draws(self) -> int:
        """States of the world that a play may take place in."""
        ...

    @property
    def worth(self) -> Floats:
        """Money per unit of each item at today's and at its new price, array (2, item)."""
        ...

    def expected_units(self, draw: int, new: Bools) -> Floats:
        """Expected units by period and item where `new` (period, item) says which items have their new price."""
        ...

    def sell(self, expected: Floats, rng: np.random.Generator) -> Floats:
        """Units sold, array (period, item), the noise of sales added."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TestConditions:
    """What every design has to live with.

    Attributes
    ----------
    weeks : int
        Length of the test; as many weeks before it are known.
    lingering : float in [0, 1)
        Share of a price's effect on units that comes a week late: habits, full cupboards.
    alpha : float
        Two-sided error rate at which power and coverage are counted.
    """

    __test__ = False  # the name starts with Test; it is no test

    weeks: int = 8
    lingering: float = 0.0
    alpha: float = 0.1

    def __post_init__(self) -> None:
        if self.weeks < 4:
            raise SpecError(f"TestConditions.weeks is {self.weeks}; a switchback needs at least 4.")
        if not (0 <= self.lingering < 1 and 0 < self.alpha < 1):
            raise SpecError("TestConditions.lingering is a share in [0, 1), alpha a rate in (0, 1).")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPerformance:
    """What a design makes of the effect of giving *every* item its new price, over many plays.

    Attributes
    ----------
    kind : str
    effect : float
        True effect, money per item and week, mean over plays.
    bias : float
        Mean of estimate minus truth, the same unit.
    sd : float
        Spread of estimate minus truth.
    error : float
        Root mean square of estimate minus truth: bias and noise together.
    power : float in [0, 1]
        Share of plays that find an effect of the right sign.
    wrong_sign : float in [0, 1]
        Share that find one of the wrong sign.
    coverage : float in [0, 1]
        Share of intervals that hold the truth.
    plays : int
    """

    kind: DesignKind
    effect: float
    bias: float
    sd: float
    error: float
    power: float
    wrong_sign: float
    coverage: float
    plays: int

    @property
    def bias_share(self) -> float:
        """Bias as a share of the size of the effect."""
        return self.bias / abs(self.effect) if self.effect != 0 else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignAdvice:
    """The design to use, and every one that was played, the best first.

    Attributes
    ----------
    kind : str
        Smallest root mean square error of the effect of a full roll-out.
    reason : str
    designs : tuple of DesignPerformance
    """

    kind: DesignKind
    reason: str
    designs: tuple[DesignPerformance, ...]


def play_designs(
    response: PriceResponse,
    conditions: TestConditions,
    rng: np.random.Generator,
    *,
    plays: int = 200,
    kinds: Sequence[DesignKind] = KINDS,
) -> tuple[DesignPerformance, ...]:
    """Play every design many times in the same states of the world and read each play out as `read_out` would.

    Items and clusters are compared by their change against as many weeks before the test; a switchback by periods,
    stretches of one price as clusters; items by time with item and period effects.

    Parameters
    ----------
    response : PriceResponse
    conditions : TestConditions
    rng : Generator
    plays : int
        Of each design.
    kinds : sequence of str

    Returns
    -------
    tuple of DesignPerformance
        In the order of `kinds`.
    """
    count = len(response.clusters)
    everybody = np.array([[False], [True]]).repeat(count, axis=1)
    rows: dict[DesignKind, list[tuple[float, Contrast]]] = {kind: [] for kind in kinds}
    for _ in range(plays):
        draw = int(rng.integers(response.draws))
        full = [
            float((response.worth[arm] * response.expected_units(draw, everybody[arm : arm + 1])).mean())
            for arm in (0, 1)
        ]
        for kind in kinds:
            new = assign_items(kind, response.clusters, conditions.weeks, rng)
            money = _play(response, draw, new, conditions, rng)
            rows[kind].append((full[1] - full[0], _read(kind, money, new, response.clusters)))
    return tuple(_performance(kind, rows[kind], conditions.alpha) for kind in kinds)


def advise_design(designs: Sequence[DesignPerformance]) -> DesignAdvice:
    """Recommend the design whose estimate of a full roll-out lies closest to the truth.

    Examples
    --------
    >>> item = DesignPerformance(kind="split", effect=1.0, bias=-2.0, sd=0.5, error=2.06, power=0.0, wrong_sign=0.6,
    ...                          coverage=0.0, plays=200)
    >>> back = DesignPerformance(kind="switchback", effect=1.0, bias=0.0, sd=0.7, error=0.7, power=0.4, wrong_sign=0.0,
    ...                          coverage=0.9, plays=200)
    >>> advise_design([item, back]).reason
    'switchback: off by 0.7 on average where the effect is 1, bias +0 %; split: off by 2.06, bias -200 %'
    """
    ranked = sorted(designs, key=lambda design: design.error)
    best = ranked[0]
    parts = [
        f"{best.kind}: off by {best.error:.3g} on average where the effect is {best.effect:.3g}, "
        f"bias {100 * best.bias_share:+.0f} %"
    ]
    parts += [f"{one.kind}: off by {one.error:.3g}, bias {100 * one.bias_share:+.0f} %" for one in ranked[1:]]
    return DesignAdvice(kind=best.kind, reason="; ".join(parts), designs=tuple(ranked))


def assign_items(kind: DesignKind, clusters: tuple[str, ...], weeks: int, rng: np.random.Generator) -> Bools:
    """Which items have their new price in which week, array (week, item).

    Examples
    --------
    >>> new = assign_items("clusters", ("tea", "tea", "soup", "soup", "rice", "rice", "oil", "oil"), 4,
    ...                    np.random.default_rng(1))
    >>> bool((new[:, ::2] == new[:, 1::2]).all()), int(new[0].sum())
    (True, 4)
    """
    items = tuple(f"{place:06d}" for place in range(len(clusters)))
    shared = {"arms": (TODAY, NEW), "weeks": weeks, "periods_per_week": 1}
    if kind == "switchback":
        return np.repeat(_both_arms(TestDesign(kind=kind, **shared), rng)[:, None], len(clusters), axis=1)  # type: ignore[arg-type]
    if kind == "clusters":
        names = tuple(sorted(set(clusters)))
        drawn = draw_assignment(TestDesign(kind=kind, units=names, **shared), rng)  # type: ignore[arg-type]
        arms = dict(drawn.iter_rows())
        return np.repeat(np.array([[arms[name] == NEW for name in clusters]]), weeks, axis=0)
    drawn = draw_assignment(TestDesign(kind=kind, units=items, blocks=clusters, **shared), rng)  # type: ignore[arg-type]
    new = (drawn["arm"] == NEW).to_numpy()
    return np.asarray(new.reshape(len(items), weeks).T if kind == "items_by_time" else np.tile(new, (weeks, 1)))


def _both_arms(design: TestDesign, rng: np.random.Generator) -> Bools:
    """A switchback with at least two stretches of each price; coins that give less are tossed again."""
    for _ in range(_MOST_TOSSES):
        new = (draw_assignment(design, rng)["arm"] == NEW).to_numpy()
        stretches = pl.Series(_runs(new)).to_frame("run").with_columns(new=new).unique()["new"].to_numpy()
        if min(stretches.sum(), (~stretches).sum()) >= 2:
            return np.asarray(new, dtype=np.bool_)
    raise SpecError(f"{design.periods} weeks hardly ever bring two stretches of each price; make the test longer.")


def _runs(new: Bools) -> Ints:
    return np.concatenate([[0], np.cumsum(np.diff(new.astype(np.int64)) != 0)]).astype(np.int64)


def _play(
    response: PriceResponse, draw: int, new: Bools, conditions: TestConditions, rng: np.random.Generator
) -> Floats:
    """Money by week and item: as many weeks before the test as in it."""
    weeks = new.shape[0]
    arms = np.concatenate([np.zeros_like(new), new])
    units = response.expected_units(draw, arms)
    late = np.concatenate([units[:1], units[:-1]])
    sold = response.sell((1.0 - conditions.lingering) * units + conditions.lingering * late, rng)
    worth = np.where(arms, response.worth[1], response.worth[0])
    return np.asarray((worth * sold).reshape(2, weeks, -1), dtype=np.float64)


def _read(kind: DesignKind, money: Floats, new: Bools, clusters: tuple[str, ...]) -> Contrast:
    before, after = money
    if kind == "switchback":
        return cluster_difference(after.mean(axis=1), new[:, 0], _runs(new[:, 0]))
    weeks, count = after.shape
    if kind == "items_by_time":
        unit, period = np.tile(np.arange(count), weeks), np.repeat(np.arange(weeks), count)
        return two_way_contrasts(after.ravel(), new.ravel().astype(np.float64)[:, None], unit, period, unit)[0]
    change, treated = after.mean(axis=0) - before.mean(axis=0), new[0]
    if kind == "clusters":
        return cluster_difference(change, treated, np.unique(np.array(clusters), return_inverse=True)[1])
    return difference_in_means(ArmSummary.of(change[~treated]), ArmSummary.of(change[treated]))


def _performance(kind: DesignKind, rows: list[tuple[float, Contrast]], alpha: float) -> DesignPerformance:
    truth = np.array([effect for effect, _ in rows])
    estimate = np.array([contrast.mean for _, contrast in rows])
    reach = np.array([c.standard_error * quantile(1.0 - 0.5 * alpha, c.degrees_of_freedom) for _, c in rows])
    found = np.abs(estimate) > reach
    off = estimate - truth
    return DesignPerformance(
        kind=kind,
        effect=float(truth.mean()),
        bias=float(off.mean()),
        sd=float(off.std()),
        error=float(np.sqrt((off**2).mean())),
        power=float((found & (estimate * truth > 0)).mean()),
        wrong_sign=float((found & (estimate * truth < 0)).mean()),
        coverage=float((np.abs(off) <= reach).mean()),
        plays=len(rows),
    )
