"""What a look at a test's data says about the test itself: ratio, tails, clusters, covariates, prices."""

from __future__ import annotations

from math import comb

import numpy as np

from bayes_pricing.errors import Finding, Severity
from bayes_pricing.experiments.clusters import FEW_CLUSTERS
from bayes_pricing.experiments.effects import ArmSummary, difference_in_means
from bayes_pricing.experiments.plan_file import below_cost
from bayes_pricing.experiments.sample_ratio import SampleRatio
from bayes_pricing.experiments.tails import check_tails
from bayes_pricing.experiments.trial import AssignedTrial, Trial

IMBALANCE = 0.001
"""p-value under which arms are said to have differed before the test."""
MANY_ZEROS = 0.05
"""Share of zeros from which an outcome is read in two parts as well."""
PLAINLY_UNEQUAL = 0.1
"""Relative distance from equal shares beyond which unpromised shares are taken for a choice, not for lost units."""
SAME_PRICE = 1e-3
"""Relative difference of mean prices under which two arms are said to have had the same."""


def ratio_findings(ratio: SampleRatio | None, *, promised: bool) -> list[Finding]:
    """A wrong sample ratio; where nobody promised shares and they are plainly unequal, that equal ones are a guess."""
    if ratio is None or ratio.passed:
        return []
    far = max(abs(n / due - 1.0) for n, due in zip(ratio.counts, ratio.expected, strict=True))
    if not promised and far > PLAINLY_UNEQUAL:
        message = f"arms have {' / '.join(f'{count:,}' for count in ratio.counts)} units and nobody said which shares "
        remedy = "say which shares were promised (--share ARM=SHARE, or the plan); then the test can decide"
        return [_finding("shares_not_promised", "error", message + "were promised", remedy)]
    got = " / ".join(f"{count:,}" for count in ratio.counts)
    due = " / ".join(f"{count:,.0f}" for count in ratio.expected)
    message = f"arms have {got} units where {due} were promised (p {ratio.p_value:.2g})"
    remedy = "find who is missing before reading any effect; if other shares were promised, say which"
    return [_finding("sample_ratio_mismatch", "error", message, remedy)]


def tail_findings(trial: Trial) -> list[Finding]:
    """Long tails and zeros of each outcome."""
    if trial.layout != "units":
        return []
    found = []
    for name, values in trial.outcomes.items():
        tails = [check_tails(values[trial.arm == place]) for place in range(len(trial.arms))]
        worst = min(tails, key=lambda tail: tail.n / max(tail.needed, 1e-300))
        if not worst.passed and np.isfinite(worst.skewness):
            message = (
                f"{name!r} has a skewness of {worst.skewness:.1f}: a mean needs about {worst.needed:,.0f} units in an "
                f"arm for its interval, the smallest has {worst.n:,}"
            )
            remedy = "read the capped and two-part effects beside it, and run the test longer"
            found.append(_finding("heavy_tail", "warning", message, remedy, name))
        zeros = float((values == 0).mean())
        if zeros >= MANY_ZEROS and np.unique(values[:1_000]).size > 2:
            message = f"{zeros:.0%} of the units have a {name!r} of zero; they are part of the mean"
            remedy = "see the share above zero and the mean above zero for where an effect sits"
            found.append(_finding("zeros", "info", message.replace("%", " %"), remedy, name))
    return found


def data_findings(trial: Trial, unit_cost: float | None, alpha: float) -> list[Finding]:
    """Clusters, prices, covariates and left-out rows."""
    return [*assignment_findings(trial, unit_cost, alpha), *_cell_findings(trial), *_covariate_findings(trial)]


def assignment_findings(trial: AssignedTrial, unit_cost: float | None, alpha: float) -> list[Finding]:
    """Too few clusters, and prices that should not have been."""
    return [*_cluster_findings(trial), *_size_findings(trial, alpha), *_price_findings(trial, unit_cost)]


def _cell_findings(trial: Trial) -> list[Finding]:
    """Rows that share a unit and a period."""
    if trial.layout == "units" or trial.rows == trial.arm.size:
        return []
    message = f"{trial.rows:,} rows were added up to {trial.arm.size:,} cells of one unit and period"
    return [_finding("rows_added_up", "info", message, "name the unit of a row where rows are units of their own")]


def _cluster_findings(trial: AssignedTrial) -> list[Finding]:
    if trial.layout != "before_after" and not trial.clustered:
        return []
    found, counts = [], trial.assigned_counts()
    if min(counts) < 2:
        place = int(np.argmin(counts))
        message = f"arm {trial.arms[place]!r} has one cluster: its own luck cannot be told from the effect"
        found.append(_finding("one_cluster", "error", message, "give each arm at least two clusters"))
    if sum(counts) < FEW_CLUSTERS:
        message = f"{sum(counts)} clusters are few: intervals rest on Student's t with few degrees of freedom"
        remedy = "assign more, smaller clusters"
        found.append(_finding("few_clusters", "warning", message, remedy))
    return found


def _size_findings(trial: AssignedTrial, alpha: float) -> list[Finding]:
    """So few clusters that no outcome whatever could have decided anything."""
    counts = trial.assigned_counts()
    if not trial.clustered or sum(counts) >= FEW_CLUSTERS:
        return []
    smallest = min(_smallest_p_value(counts[0], treated) for treated in counts[1:])
    if smallest < alpha:
        return []
    message = f"with {' / '.join(str(count) for count in counts)} clusters no p-value can fall under {smallest:.2g}"
    remedy = f"no outcome could have decided this test at {alpha:.2g}; assign more clusters next time"
    return [_finding("test_too_small", "warning", message, remedy)]


def _smallest_p_value(control: int, treated: int) -> float:
    return (2.0 if control == treated else 1.0) / comb(control + treated, treated)


def _covariate_findings(trial: Trial) -> list[Finding]:
    found = []
    if trial.only_before:
        message = f"{trial.only_before:,} units have rows before the start only; they are no part of the test"
        found.append(_finding("only_before_start", "info", message, "check that they could not take part"))
    for name, columns in trial.covariates.items():
        for covariate in columns.T:
            known = ~np.isnan(covariate)
            arms = [covariate[known & (trial.arm == place)] for place in range(len(trial.arms))]
            if min(arm.size for arm in arms) < 2:
                continue
            control = ArmSummary.of(arms[0])
            if any(difference_in_means(control, ArmSummary.of(arm)).p_value < IMBALANCE for arm in arms[1:]):
                message = "the arms differed before the test began"
                remedy = "check the assignment; the adjustment takes out what these covariates foretell, no more"
                found.append(_finding("imbalance", "warning", message, remedy, name))
    return found


def _price_findings(trial: AssignedTrial, unit_cost: float | None) -> list[Finding]:
    if trial.prices is None:
        return []
    costs = trial.costs if trial.costs is not None else (unit_cost,) * len(trial.arms)
    found = below_cost([(arm, price, cost) for arm, price, cost in zip(trial.arms, trial.prices, costs, strict=True)])
    control = trial.prices[0]
    for arm, price in zip(trial.arms[1:], trial.prices[1:], strict=True):
        if abs(price - control) <= SAME_PRICE * abs(control):
            message = f"arm {arm!r} was sold at control's price of {control:g}"
            found.append(_finding("same_price", "warning", message, "check that the new price was shown", arm))
    return found


def _finding(code: str, severity: Severity, message: str, remedy: str, item: str | None = None) -> Finding:
    return Finding(code=code, severity=severity, message=message, remedy=remedy, item=item)
