"""What items are: columns, refusals, and where the tree takes no other model."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.attributes import item_attributes, new_attributes
from bayes_pricing.demand.changing import term_columns
from bayes_pricing.demand.design import Design, ModelRequest, build_design
from bayes_pricing.demand.elasticity import attribute_table
from bayes_pricing.demand.gaussian_tree import build_tree_data
from bayes_pricing.demand.spec import Priors
from bayes_pricing.demand.terms import TermRequest
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_prior import build_tree_prior
from bayes_pricing.demand.tree_sampling import TreeDraws
from bayes_pricing.errors import PanelError, Refusal, SpecError


def design(request: ModelRequest | None = None, **columns: list[object]) -> Design:
    """Four items in six weeks with attribute columns given by item."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "item": np.repeat(["a", "b", "c", "d"], 6),
            "period": np.tile(np.arange(6), 4),
            "price": np.exp(rng.normal(0.0, 0.2, 24)),
            "quantity": np.exp(rng.normal(6.0, 0.2, 24)),
            **{name: [value for value in values for _ in range(6)] for name, values in columns.items()},
        }
    )
    roles = ColumnRoles.resolve(frame.columns, attributes=tuple(name for name in columns if name != "category"))
    return build_design(SalesPanel.from_frame(frame, roles), request or ModelRequest(model="lognormal"))


def test_numbers_and_texts_become_columns_centred_over_items() -> None:
    found = design(size=[1.0, 2.0, 3.0, 6.0], brand=["own", "star", "own", "moon"])
    assert found.spec.attributes == ("size", "brand=moon", "brand=star")
    assert found.items["attribute_brand=star"].to_list() == [0.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(item_attributes(found.items, ["size"])[:, 0], [-2.0, -1.0, 0.0, 3.0])
    known = new_attributes(found.items, found.spec.attributes, {"size": 4.0, "brand": "own"})
    np.testing.assert_allclose(known, [1.0, -0.25, -0.25])


def test_levels_keep_the_attribute_and_prices_lose_the_items_mean() -> None:
    found = design(size=[1.0, 2.0, 3.0, 6.0])
    rows = found.frame.with_columns(log_price=pl.col("price").log(), log_units=pl.col("quantity").log())
    gram = gather_gram(rows, "item", "log_units", found.spec.columns[1:], centred=found.spec.centred)
    np.testing.assert_allclose(gram.xtx[:, 0, gram.columns.index("size:level")] / 6.0, [-2.0, -1.0, 0.0, 3.0])
    np.testing.assert_allclose(gram.xtx[:, 0, gram.columns.index("size:log_price")], 0.0, atol=1e-12)
    data = build_tree_data(gram, [], found.spec)
    prior = build_tree_prior(data, Priors())
    # one standard deviation of size (3.5 ** 0.5) moves the elasticity by 0.5, log units by 1, one prior sd
    np.testing.assert_allclose(prior.root_sd[2:] * 3.5**0.5, [1.0, 0.5])


def test_two_values_are_half_a_difference_apart() -> None:
    found = design(organic=[0, 0, 0, 1])
    rows = found.frame.with_columns(log_price=pl.col("price").log(), log_units=pl.col("quantity").log())
    gram = gather_gram(rows, "item", "log_units", found.spec.columns[1:], centred=found.spec.centred)
    prior = build_tree_prior(build_tree_data(gram, [], found.spec), Priors())
    np.testing.assert_allclose(prior.root_sd[2:], [2.0, 1.0])


def test_an_attribute_that_changes_never_differs_or_has_many_values_is_refused() -> None:
    with pytest.raises(Refusal, match="explains nothing"):
        design(size=[2.0, 2.0, 2.0, 2.0])
    frame = design(size=[1.0, 2.0, 3.0, 4.0]).frame.select("item", "period", "price", "quantity").collect()
    moving = frame.with_columns(size=pl.int_range(pl.len()).cast(pl.Float64))
    panel = SalesPanel.from_frame(moving, ColumnRoles.resolve(moving.columns, attributes=("size",)))
    with pytest.raises(PanelError, match="more than one value"):
        build_design(panel, ModelRequest(model="lognormal"))


def test_attributes_need_names_that_are_known_and_prices_as_given() -> None:
    with pytest.raises(SpecError, match="controls too"):
        ColumnRoles(item="item", price="price", quantity="quantity", attributes=("size",), shared_controls=("size",))
    with pytest.raises(SpecError, match="brand"):
        new_attributes(pl.DataFrame({"attribute_size": [1.0]}), ["size"], {"size": 1.0, "brand": "own"})
    found = design(size=[1.0, 2.0, 3.0, 6.0])
    frame = found.frame.select("item", "period", "price", "quantity", "size").collect()
    frame = frame.with_columns(cost=pl.col("price") * 0.5)
    roles = ColumnRoles.resolve(frame.columns, attributes=("size",), instruments=("cost",))
    with pytest.raises(Refusal, match="--attribute asked for with instruments"):
        build_design(SalesPanel.from_frame(frame, roles), ModelRequest())


def jars() -> Design:
    """Four jars in two categories with a size, and an elasticity that drifts."""
    request = ModelRequest(model="lognormal", noise_by="common", terms=TermRequest(drift=True))
    return design(request, size=[1.0, 2.0, 3.0, 6.0], category=["x", "x", "y", "y"])


def made_up_posterior() -> TreePosterior:
    """Of the jars; what is above the items is made up."""
    found = jars()
    rows = found.frame.with_columns(log_price=pl.col("price").log(), log_units=pl.col("quantity").log())
    gram = gather_gram(rows, "item", "log_units", found.spec.columns[1:], centred=found.spec.centred)
    data = build_tree_data(gram, [found.items["category"].to_list()], found.spec)
    prior, rng = build_tree_prior(data, Priors()), np.random.default_rng(4)
    states = rng.normal(size=(2, 50, 3, 5))
    states[:, :, :, 3:] = states[:, :, -1:, 3:]
    draws = TreeDraws(
        theta=rng.normal(-0.5, 0.3, (2, 50, data.layout.size)),
        log_noise=np.full((2, 50, 1), -1.0),
        log_spread=None,
        item_log_noise=None,
        states=states,
        divergences=0,
        energy=rng.normal(size=(2, 50)),
        steps=np.ones((2, 50)),
        seconds=0.1,
    )
    return build_tree_posterior(data, prior, draws, found.items, seed=3)


def test_units_have_what_their_attributes_add() -> None:
    """A category has what its items' mean size adds (1.5 off the mean either way), a new item what its own adds."""
    posterior = made_up_posterior()
    states = posterior.draws.states
    on_level, on_price = states[:, :, -1, 3], states[:, :, -1, 4]
    effects = posterior.attribute_effects()
    np.testing.assert_array_equal(effects.sel(attribute="size", coefficient="level"), on_level)
    np.testing.assert_array_equal(effects.sel(attribute="size", coefficient="log_price"), on_price)
    categories = posterior.coefficients("category", ["y", "x"])
    np.testing.assert_allclose(categories[:, :, 0, 0], states[:, :, 1, 0] + 1.5 * on_level)
    np.testing.assert_allclose(categories[:, :, 1, 1], states[:, :, 0, 1] - 1.5 * on_price)
    np.testing.assert_allclose(categories[:, :, 1, 2], states[:, :, 0, 2])
    large, usual = (posterior.new_unit("item", "y", seed=1, attributes={"size": size}) for size in (7.0, 4.5))
    np.testing.assert_allclose((large - usual).sel(coefficient="log_price"), 2.5 * on_price)
    np.testing.assert_allclose(usual, posterior.new_unit("item", "y", seed=1))
    assert all(bool(np.isfinite(values).all()) for values in posterior.hyper().values())
    assert attribute_table(posterior)["mean"].to_list() == pytest.approx([on_price.mean(), on_level.mean()])
    with pytest.raises(SpecError, match="size"):
        posterior.new_unit("item", "y", seed=1, attributes={"weight": 1.0})


def test_new_rows_get_the_columns_of_the_fit() -> None:
    """The design's own rows come out as they were; a period after the last counts as the last."""
    posterior, seen = made_up_posterior(), jars().frame.collect()
    built = ["price_drift", "size:level", "size:log_price"]
    again = term_columns(seen.drop(built), posterior)
    np.testing.assert_allclose(again.select(built).to_numpy(), seen.select(built).to_numpy(), atol=1e-12)
    later = term_columns(pl.DataFrame({"item": ["a"], "period": [9], "price": [2.0]}), posterior)
    assert later["price_drift"].to_list() == [0.0]
    assert later["size:log_price"].to_list() == pytest.approx([-2.0 * np.log(2.0)])
