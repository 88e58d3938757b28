"""Published models: thin, immutable, found again by content, and claims with the noise of sales."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import Refusal, SpecError, StorageError
from server.claims import claim_units
from server.finite import encode_finite
from server.policies import policy_flags
from server.store.published import load_published
from server.store.publishing import publish_posterior
from tests.posteriors import posterior_from_draws


def published(root: Path, likelihood: str, smearing: float = 0.0) -> str:
    rng = np.random.default_rng(1)
    posterior = posterior_from_draws(
        rng.normal(-2.0, 0.2, (3000, 1)),
        units=100.0,
        smearing=smearing,
        spec=DemandSpec(likelihood=likelihood),  # type: ignore[arg-type]
    )
    return publish_posterior(posterior, root, draws=1000)


def test_publishing_twice_is_publishing_once(tmp_path: Path) -> None:
    first = published(tmp_path, "lognormal")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert published(tmp_path, "lognormal") == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path != tmp_path} == before
    assert load_published(tmp_path, first).posterior.item_draws.shape == (2, 500, 1, 2)


def test_prices_that_cross_are_not_published(tmp_path: Path) -> None:
    posterior = posterior_from_draws(np.random.default_rng(1).normal(-2.0, 0.2, (40, 2)))
    spec = DemandSpec(controls=("cross_price",), cross_prices="category", others=1)
    crossing = SimpleNamespace(spec=spec, items=posterior.items)
    with pytest.raises(Refusal, match="act on each other"):
        publish_posterior(crossing, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_another_policy_is_another_model(tmp_path: Path) -> None:
    posterior = posterior_from_draws(np.random.default_rng(1).normal(-2.0, 0.2, (400, 2)), cost=5.0)
    narrow = publish_posterior(posterior, tmp_path, policy={"max_change": 0.05, "no_tests": True})
    free = publish_posterior(posterior, tmp_path, policy={"no_tests": True})
    assert narrow != free
    model = load_published(tmp_path, narrow)
    move = model.decision("item-00000").items[0].price / 10.0 - 1.0
    assert abs(move) <= 0.05 + 1e-9
    with pytest.raises(SpecError, match="unknown name 'max_chnage'"):
        policy_flags({"max_chnage": 0.05})


@pytest.mark.parametrize(
    ("likelihood", "smearing", "sd"),
    [("poisson", 0.0, 20.0), ("lognormal", 0.02, 400.0 * np.sqrt(np.expm1(0.04) / 4.0))],
)
def test_claims_have_the_noise_of_sales(tmp_path: Path, likelihood: str, smearing: float, sd: float) -> None:
    model = load_published(tmp_path, published(tmp_path, likelihood, smearing))
    mean, lower, upper = claim_units(model, "item-00000", 10.0, 4.0)
    assert mean == pytest.approx(400.0, rel=1e-5)  # today's units are known; draws are float32
    assert upper - lower == pytest.approx(2 * 1.645 * sd, rel=0.05)  # ten thousand draws: quantiles within 3 %
    assert claim_units(model, "item-00000", 10.0, 4.0) == (mean, lower, upper)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for name in ("0" * 32, "../elsewhere"):
        with pytest.raises(StorageError, match="published model"):
            load_published(tmp_path, name)
    with pytest.raises(ValueError, match=r"\$\.a\[1\] is nan"):
        encode_finite({"a": [1.0, float("nan")]})
