"""Saved choices, shares and offers come back bit for bit, and nothing else passes for one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.choice_registry import ChoiceFit, SavedPosterior, is_choice, load_choice, save_choice
from bayes_pricing.demand.choice import ChoicePosterior
from bayes_pricing.demand.choice_data import build_choices
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.purchase import PurchasePosterior
from bayes_pricing.demand.purchase_curve import expected_revenue
from bayes_pricing.demand.purchase_data import build_purchases, build_steps
from bayes_pricing.demand.shares import SharePosterior
from bayes_pricing.demand.shares_data import build_shares
from bayes_pricing.demand.shares_people import PeopleSharePosterior
from bayes_pricing.errors import Check, Finding, Refusal, StorageError
from bayes_pricing.registry import load_fit
from bayes_pricing.storage import Bundle, write_bundle

CHECK = Check(code="rhat", passed=True, finding="largest R-hat 1.001, limit 1.01")
PASSED = Diagnostics(checks=(CHECK,), max_rhat=1.001, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0)
RNG = np.random.default_rng(5)


def choices() -> ChoicePosterior:
    rows = pl.DataFrame(
        {"trip": [1, 1, 2, 2], "brand": ["a", "b"] * 2, "bought": [1, 0, 0, 0], "price": [2.0, 3, 2, 2]}
    )
    data = build_choices(rows, occasion="trip", alternative="brand", chosen="bought", price="price", outside=True)
    people = RNG.normal(size=(2, 4, 2, 3)).astype(np.float32)
    mean, factor = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 3, 3))
    return ChoicePosterior(id="choices", data=data, mean=mean, factor=factor, people=people, diagnostics=PASSED, seed=3)


def shares() -> SharePosterior:
    rows = pl.DataFrame(
        {
            "city": ["x", "x", "y", "y"],
            "brand": ["a", "b"] * 2,
            "share": [0.2, 0.3, 0.25, 0.1],
            "price": [2.0, 3, 1.5, 4],
        }
    )
    return SharePosterior(
        id="shares",
        data=build_shares(rows, market=["city"], product="brand", share="share", price="price"),
        hierarchical=False,
        instrumented=False,
        elasticity=RNG.normal(size=(2, 4)),
        by_market=None,
        product=RNG.normal(size=(2, 4, 2)),
        slopes=np.empty((2, 4, 0)),
        scales={"noise_sd": RNG.random((2, 4))},
        first_stage=None,
        diagnostics=PASSED,
        seed=4,
    )


def people() -> PeopleSharePosterior:
    base = replace(shares(), id="people")
    spread, own = RNG.random((2, 4, 2)), RNG.normal(size=(2, 4, 2))
    return PeopleSharePosterior(base=base, tastes_of=("price", "constant"), spread=spread, own=own, people=50)


def purchases() -> PurchasePosterior:
    rows = pl.DataFrame({"price": [1.0, 2.0, 3.0, 4.0], "bought": [9, 7, 4, 1], "offers": [10] * 4})
    data = build_purchases(rows, price="price", bought="bought", trials="offers")
    basis = build_steps(data)
    return PurchasePosterior(
        id="purchases",
        data=data,
        shape="curve",
        names=("constant",),
        beta=RNG.normal(size=(2, 4, 1)),
        basis=basis,
        falls=RNG.random((2, 4, len(basis.even))),
        bend=RNG.random((2, 4)),
        diagnostics=PASSED,
        findings=(Finding(code="price_not_randomised", severity="warning", message="m", remedy="r"),),
        seed=5,
    )


def same(one: object, other: object) -> None:
    """Equal to the last bit, type by type."""
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            same(value, other[key])
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    else:
        assert one == other


@pytest.mark.parametrize("posterior", [choices(), shares(), people(), purchases()], ids=lambda one: one.id)
def test_a_fit_comes_back_bit_for_bit(posterior: SavedPosterior, tmp_path: Path) -> None:
    fitted = ChoiceFit(posterior=posterior, findings=(Finding(code="c", severity="info", message="m", remedy="r"),))
    save_choice(fitted, tmp_path / "model")
    assert is_choice(tmp_path / "model")
    same(load_choice(tmp_path / "model"), fitted)


def test_a_loaded_curve_earns_what_the_saved_one_did(tmp_path: Path) -> None:
    posterior = purchases()
    save_choice(ChoiceFit(posterior=posterior), tmp_path / "model")
    again = load_choice(tmp_path / "model").posterior
    assert isinstance(again, PurchasePosterior)
    before, after = (expected_revenue(one, cost=0.5).money.to_numpy() for one in (posterior, again))
    assert before.tobytes() == after.tobytes()


def test_what_failed_the_gate_is_not_saved(tmp_path: Path) -> None:
    failed = replace(PASSED, checks=(replace(CHECK, passed=False),))
    with pytest.raises(Refusal):
        save_choice(ChoiceFit(posterior=replace(shares(), diagnostics=failed)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_model_of_sales_is_named_as_one(tmp_path: Path) -> None:
    write_bundle(Bundle(arrays={}, tables={}, about={"kind": "tree"}), tmp_path / "model")
    assert not is_choice(tmp_path / "model")
    with pytest.raises(StorageError, match="load_fit"):
        load_choice(tmp_path / "model")


def test_and_choices_are_no_model_of_sales(tmp_path: Path) -> None:
    save_choice(ChoiceFit(posterior=shares()), tmp_path / "model")
    with pytest.raises(StorageError, match="load_choice"):
        load_fit(tmp_path / "model")
