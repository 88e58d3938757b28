from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.bandits import play_test_and_roll, play_thompson
from bayes_pricing.experiments.false_alarms import count_false_alarms
from bayes_pricing.experiments.many_arms import Arms, best_sizes, score_sizes

PRIOR = np.array([[0.25, 0.1, 0.1], [0.1, 0.25, 0.1], [0.1, 0.1, 0.25]])
ARMS = Arms(
    means=(1.0, 1.0, 1.0), covariance=tuple(tuple(row) for row in PRIOR.tolist()), noise_sds=(1.0,) * 3, population=300
)


def test_a_played_test_earns_what_was_planned() -> None:
    rng = np.random.default_rng(1)
    truth = rng.multivariate_normal(ARMS.means, PRIOR, 3_000)
    sizes = np.ceil(best_sizes(ARMS).n_per_arm)
    played = play_test_and_roll(ARMS, truth, sizes, rng)
    money = ARMS.population * truth.max(axis=1) - played.regret[:, -1]
    scored = score_sizes(ARMS, sizes)
    assert abs(money.mean() - scored.profit) < 3 * money.std() / np.sqrt(len(money))


def test_thompson_sampling_finds_the_best_arm() -> None:
    rng = np.random.default_rng(2)
    truth = rng.multivariate_normal(ARMS.means, PRIOR, 500)
    played = play_thompson(ARMS, truth, rng)
    assert (np.diff(played.regret, axis=1) >= 0).all()
    late = played.choices[:, -30:] == truth.argmax(axis=1)[:, None]
    early = played.choices[:, :30] == truth.argmax(axis=1)[:, None]
    assert late.mean() > early.mean() + 0.2
    none = play_test_and_roll(ARMS, truth, np.zeros(3), rng)
    assert played.mean_regret()[-1] < none.mean_regret()[-1]


def test_an_even_test_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="does not fit"):
        play_test_and_roll(ARMS, np.ones((2, 3)), np.full(3, 200.0), np.random.default_rng(1))


def test_splits_without_an_effect_fire_as_promised_and_rows_of_one_customer_do_not() -> None:
    rng = np.random.default_rng(3)
    customer = np.repeat(np.arange(120), 20)
    spent = rng.normal(10.0, 1.0, size=120)[customer] + rng.normal(size=customer.size)
    honest = count_false_alarms(spent, rng, cluster=customer, splits=800)
    assert honest.as_promised
    assert abs(honest.rate - 0.1) < 0.04  # 4 standard errors of 800 splits
    with pytest.raises(Refusal, match="cannot be split"):
        count_false_alarms(spent[:60], rng, cluster=customer[:60])
