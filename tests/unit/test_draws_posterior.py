"""Posterior of draws: names, shapes, selection, round trip."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.draws_posterior import DrawsMetadata, DrawsPosterior
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import SpecError

SPEC = DemandSpec(
    likelihood="negative_binomial", levels=("family", "house"), controls=("display",), shared_controls=("holiday",)
)
ITEMS = ("earl", "mint", "rice")
CHAINS, DRAWS, K = 2, 5, 3


def posterior() -> DrawsPosterior:
    rng = np.random.default_rng(4)
    units = {"family": ("grain", "tea"), "house": ("only",)}

    def draws(*shape: int) -> np.ndarray:
        return rng.normal(size=(CHAINS, DRAWS, *shape)).astype(np.float32)

    population = draws(K)
    return DrawsPosterior(
        id="f" * 64,
        spec=SPEC,
        items=pl.DataFrame({"item": ITEMS, "family": ["tea", "tea", "grain"], "house": "only"}),
        units=units,
        item_draws=draws(len(ITEMS), K),
        upper_draws={"family": draws(2, K), "house": population[:, :, None, :], "population": population},
        between_sd={name: np.abs(draws(K)).astype(float) for name in ("item", "family", "house")},
        correlation={name: np.tanh(draws(3)).astype(float) for name in ("item", "family", "house")},
        shared_draws=draws(1).astype(float),
        dispersion=np.exp(draws()).astype(float),
        weight=np.array([0.2, 0.0, 0.7]),
    )


def test_it_is_a_demand_posterior() -> None:
    held: DemandPosterior = posterior()  # for the type checker
    assert held.id == "f" * 64
    assert held.spec.all_levels == ("item", "family", "house", "population")


def test_units_are_chosen_by_name_in_the_order_asked_for() -> None:
    held = posterior()
    chosen = held.coefficients("item", ["rice", "earl"])
    assert chosen.dims == ("chain", "draw", "item", "coefficient")
    assert chosen["coefficient"].to_numpy().tolist() == ["level", "log_price", "display"]
    everything = held.coefficients("item")
    np.testing.assert_array_equal(chosen.sel(item="rice"), everything.sel(item="rice"))
    np.testing.assert_array_equal(chosen.isel(item=1), everything.isel(item=0))
    np.testing.assert_array_equal(held.coefficients("family", ["tea"])[:, :, 0], held.upper_draws["family"][:, :, 1])


def test_a_level_with_one_unit_is_the_population() -> None:
    held = posterior()
    np.testing.assert_array_equal(held.coefficients("house").sel(house="only"), held.coefficients("population"))


def test_counts_need_no_smearing() -> None:
    smearing = posterior().log_smearing(["mint"])
    assert smearing.sizes == {"chain": CHAINS, "draw": DRAWS, "item": 1}
    assert not smearing.any()


def test_hyper_parameters_carry_names() -> None:
    hyper = posterior().hyper()
    assert hyper["item_correlation"]["pair"].to_numpy().tolist() == [
        "log_price:level",
        "display:level",
        "display:log_price",
    ]
    dispersion = posterior().to_arrays()["dispersion"]
    np.testing.assert_allclose(hyper["overdispersion"] ** -2.0, dispersion, rtol=1e-12)
    np.testing.assert_array_equal(hyper["family_sd"], posterior().variation("family"))


def test_thinning_keeps_states_of_the_world_together() -> None:
    held = posterior()
    thin = held.thin(3)
    assert thin.dispersion is not None
    assert held.dispersion is not None
    np.testing.assert_array_equal(thin.coefficients("item"), held.coefficients("item")[:, [0, 2, 4]])
    np.testing.assert_array_equal(thin.dispersion, held.dispersion[:, [0, 2, 4]])
    np.testing.assert_array_equal(held.thin(100).shared(), held.shared())


def test_arrays_and_metadata_hold_everything() -> None:
    held = posterior()
    metadata = msgspec.json.decode(msgspec.json.encode(held.metadata), type=DrawsMetadata)
    again = DrawsPosterior.from_arrays(held.to_arrays(), metadata, held.items)
    assert (again.id, again.spec, dict(again.units)) == (held.id, held.spec, dict(held.units))
    for level in SPEC.all_levels:
        assert again.coefficients(level).identical(held.coefficients(level))
    assert again.hyper().identical(held.hyper())
    assert again.shared().identical(held.shared())
    assert again.own_data_weight().identical(held.own_data_weight())


@pytest.mark.parametrize("level", ["item", "family"])
def test_unknown_units_are_named(level: str) -> None:
    with pytest.raises(SpecError, match=f"'salt' is no {level} of this fit"):
        posterior().coefficients(level, ["salt"])


def test_unknown_levels_are_named() -> None:
    with pytest.raises(SpecError, match="no level 'shop'; choose one of item, family, house, population"):
        posterior().coefficients("shop")
    with pytest.raises(SpecError, match="no level 'population' that varies"):
        posterior().variation("population")


def test_draws_must_fit_the_item_table() -> None:
    held = posterior()
    with pytest.raises(SpecError, match="the item table has 3 items"):
        DrawsPosterior.from_arrays(held.to_arrays() | {"item": held.item_draws[:, :, :2]}, held.metadata, held.items)


def hierarchy(rng: np.random.Generator, draws: int) -> DrawsPosterior:
    """Two families known to 0.3, items 0.5 around them, families 0.8 around a population known to 0.4."""
    shape = (2, draws)
    population = np.array([2.0, -2.5]) + 0.4 * rng.normal(size=(*shape, 2))
    family = np.array([[2.5, -3.0], [1.5, -2.0]]) + 0.3 * rng.normal(size=(*shape, 2, 2))
    constant = {name: np.broadcast_to(sd, (*shape, 2)).copy() for name, sd in (("item", 0.5), ("family", 0.8))}
    return DrawsPosterior(
        id="known",
        spec=DemandSpec(likelihood="poisson", levels=("family",)),
        items=pl.DataFrame({"item": ["a", "b"], "family": ["tea", "grain"]}),
        units={"family": ("grain", "tea")},
        item_draws=np.zeros((*shape, 2, 2), dtype=np.float32),
        upper_draws={"family": family.astype(np.float32), "population": population.astype(np.float32)},
        between_sd=constant,
        correlation={name: np.full((*shape, 1), -0.6) for name in constant},
        shared_draws=np.zeros((*shape, 0)),
        dispersion=None,
        weight=np.ones(2),
    )


def test_new_units_are_as_wide_as_their_hierarchy() -> None:
    """A new item of a known family, and one of a new family: intervals hold the share of drawn truths they promise."""
    rng = np.random.default_rng(6)
    held = hierarchy(rng, 4000)
    known = held.new_unit("item", "tea", seed=1)
    strange = held.new_unit("item", held.new_unit("family", None, seed=2), seed=3)
    truths = 4000
    of_tea = -2.0 + 0.3 * rng.normal(size=truths) + 0.5 * rng.normal(size=truths)
    of_none = -2.5 + np.hypot(np.hypot(0.4, 0.8), 0.5) * rng.normal(size=truths)
    for found, truth, sd in ((known, of_tea, np.hypot(0.3, 0.5)), (strange, of_none, np.sqrt(0.16 + 0.64 + 0.25))):
        draws = found.sel(coefficient="log_price")
        assert float(draws.std()) == pytest.approx(sd, rel=0.04)  # five standard errors of an sd from 8,000 draws
        for probability in (0.5, 0.9):
            lower, upper = draws.quantile([0.5 - probability / 2, 0.5 + probability / 2]).to_numpy()
            held_share = float(((lower < truth) & (truth < upper)).mean())
            assert held_share == pytest.approx(
                probability, abs=0.035
            )  # four standard errors of truths and of quantiles
    # level and elasticity deviate together by -0.6; what is shared from above is independent in both
    both = np.corrcoef(known.to_numpy().reshape(-1, 2).T)[0, 1]
    assert both == pytest.approx(-0.6 * 0.25 / 0.34, abs=0.04)


def test_a_new_unit_needs_to_know_where_it_hangs() -> None:
    held = hierarchy(np.random.default_rng(1), 10)
    with pytest.raises(SpecError, match="name its parent"):
        held.new_unit("item", None, seed=1)
    with pytest.raises(SpecError, match="No units of 'house' vary"):
        posterior().new_unit("house", None, seed=1)
    np.testing.assert_array_equal(held.new_unit("item", "tea", seed=1), held.new_unit("item", "tea", seed=1))
    assert not np.array_equal(held.new_unit("item", "tea", seed=1), held.new_unit("item", "tea", seed=2))
