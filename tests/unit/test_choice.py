"""Choice: what the table must hold, the density's gradient, elasticities against finite differences, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice import ChoicePosterior, maximise_choice
from bayes_pricing.demand.choice import fit_choice as fit
from bayes_pricing.demand.choice_data import ChoiceData, build_choices
from bayes_pricing.demand.choice_density import kernel_choices, log_posterior, size_of
from bayes_pricing.demand.choice_elasticity import choice_elasticities, diversion, market_shares, typical_market
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.errors import PanelError, Refusal
from tests.choices import choice_rows, simulate_choices


def posterior_of(data: ChoiceData, *, mixed: bool) -> ChoicePosterior:
    """A posterior made of arrays: 50 draws around plausible tastes."""
    rng = np.random.default_rng(4)
    k = len(data.coefficients)
    mean = np.array([0.5, 0.2, -1.2, 0.4])[:k] + 0.1 * rng.standard_normal((2, 25, k))
    factor = np.tril(0.3 * np.abs(rng.standard_normal((2, 25, k, k)))) if mixed else None
    verdict = Diagnostics(checks=(), max_rhat=1.0, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0)
    return ChoicePosterior(id="x", data=data, mean=mean, factor=factor, people=None, diagnostics=verdict, seed=3)


def test_every_problem_of_a_table_is_told_at_once() -> None:
    rows = choice_rows(simulate_choices(people=4, occasions=2, seed=1)).with_columns(
        price=pl.when(pl.int_range(pl.len()) == 0).then(-1.0).otherwise("price"),
        chosen=pl.when(pl.int_range(pl.len()) == 5).then(3).otherwise("chosen"),
    )
    doubled = pl.concat([rows, rows.tail(1)])
    with pytest.raises(PanelError) as refused:
        build_choices(doubled, occasion="trip", alternative="brand", chosen="chosen", price="price", chooser="who")
    codes = {problem.code for problem in refused.value.problems}
    assert {"price_not_positive", "chosen_not_a_flag", "duplicate_key"} <= codes


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(PanelError, match="no column 'cost'"):
        build_choices(pl.DataFrame({"a": [1]}), occasion="a", alternative="a", chosen="a", price="cost")


@pytest.mark.parametrize("mixed", [False, True])
def test_gradient_is_that_of_finite_differences(mixed: bool) -> None:
    data = simulate_choices(people=5, occasions=3, seed=2)
    k = len(data.coefficients)
    spread = np.full(k, 0.7) if mixed else np.zeros(0)
    choices = kernel_choices(data, np.linspace(-1, 1, k), np.full(k, 1.5), spread)
    at = 0.5 * np.random.default_rng(3).standard_normal(size_of(choices))
    gradient, scratch, step = np.empty_like(at), np.empty_like(at), 1e-5
    log_posterior(at, choices, gradient)
    for position in range(len(at)):
        ahead, behind = at.copy(), at.copy()
        ahead[position] += step
        behind[position] -= step
        slope = (log_posterior(ahead, choices, scratch) - log_posterior(behind, choices, scratch)) / (2 * step)
        assert gradient[position] == pytest.approx(slope, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_elasticities_are_slopes_of_log_shares(mixed: bool) -> None:
    posterior = posterior_of(simulate_choices(people=5, occasions=3, seed=2), mixed=mixed)
    x, step = typical_market(posterior), 1e-5
    elasticity = choice_elasticities(posterior, x).to_numpy()
    at = posterior.data.price_at
    for k in range(len(x)):
        ahead, behind = x.copy(), x.copy()
        ahead[k, at] *= np.exp(step)
        behind[k, at] *= np.exp(-step)
        moved = np.log(market_shares(posterior, ahead).to_numpy() / market_shares(posterior, behind).to_numpy())
        np.testing.assert_allclose(elasticity[:, :, k], moved / (2 * step), rtol=1e-5, atol=1e-7)


def test_all_who_leave_go_somewhere() -> None:
    posterior = posterior_of(simulate_choices(people=5, occasions=3, seed=2), mixed=True)
    np.testing.assert_allclose(diversion(posterior).sum("to").to_numpy(), 1.0, atol=1e-12)


def test_tastes_cannot_differ_between_people_seen_once() -> None:
    with pytest.raises(Refusal, match="less than two each"):
        fit(simulate_choices(people=10, occasions=1, seed=1), mixed=True, seed=1)


def test_a_price_that_never_moves_is_refused() -> None:
    rows = choice_rows(simulate_choices(people=6, occasions=3, seed=1)).with_columns(price=pl.lit(2.0))
    data = build_choices(rows, occasion="trip", alternative="brand", chosen="chosen", price="price", chooser="who")
    with pytest.raises(Refusal, match="no alternative's price ever differs"):
        fit(data, mixed=False, seed=1)


def test_an_alternative_never_chosen_has_no_maximum() -> None:
    data = simulate_choices(people=6, occasions=3, seed=1)
    never = pl.col("brand") == "a"
    rows = choice_rows(data).with_columns(chosen=pl.when(never).then(0).otherwise("chosen"))
    told = build_choices(
        rows, occasion="trip", alternative="brand", chosen="chosen", price="price", chooser="who", outside=True
    )
    with pytest.raises(Refusal, match="no maximum"):
        maximise_choice(told)
