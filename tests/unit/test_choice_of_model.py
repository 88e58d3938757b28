from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice_of_model import choose_likelihood, quantity_facts, refuse_zeros_under_logs
from bayes_pricing.errors import Refusal


def sales(quantity: np.ndarray) -> pl.LazyFrame:
    price = np.tile([1.0, 1.2], len(quantity) // 2)
    return pl.LazyFrame({"item": ["a"] * len(quantity), "price": price, "quantity": quantity.astype(float)})


def test_sparse_poisson_counts_are_fitted_as_poisson() -> None:
    facts = quantity_facts(sales(np.random.default_rng(1).poisson(0.5, size=4000)))
    assert facts.dispersion == pytest.approx(1.0, abs=0.1)  # se sqrt(2/4000)(1 + 1/mean) ~ 0.04
    assert choose_likelihood(facts).likelihood == "poisson"


def test_overdispersed_counts_are_fitted_as_negative_binomial() -> None:
    facts = quantity_facts(sales(np.random.default_rng(2).negative_binomial(2, 0.5, size=4000)))
    assert facts.dispersion == pytest.approx(2.0, rel=0.15)  # variance / mean = 1 / p
    choice = choose_likelihood(facts)
    assert choice.likelihood == "negative_binomial"
    assert choice.alternatives == ("poisson",)


def test_large_sales_without_zeros_are_log_normal() -> None:
    choice = choose_likelihood(quantity_facts(sales(np.random.default_rng(3).poisson(400, size=400))))
    assert choice.likelihood == "lognormal"
    assert "poisson" in choice.alternatives


def test_fractions_with_zeros_are_refused_with_the_remedy() -> None:
    quantity = np.random.default_rng(4).gamma(2.0, size=100)
    quantity[:7] = 0.0
    with pytest.raises(Refusal, match=r"7\.0% of rows sold nothing.*aggregate to longer periods"):
        choose_likelihood(quantity_facts(sales(quantity)))


def test_a_log_normal_fit_of_zeros_is_refused() -> None:
    facts = quantity_facts(sales(np.random.default_rng(5).poisson(0.5, size=400)))
    with pytest.raises(Refusal) as refused:
        refuse_zeros_under_logs("lognormal", facts)
    assert [finding.code for finding in refused.value.findings] == ["zeros_under_log_model"]
    refuse_zeros_under_logs("poisson", facts)
