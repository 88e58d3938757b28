"""Policies as requests and published models carry them: aims and limits under the names of the shell's flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from bayes_pricing.errors import SpecError
from server.readers import readable

if TYPE_CHECKING:
    from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags


def policy_flags(policy: Mapping[str, Any]) -> tuple[MoneyFlags, LimitFlags]:
    """Money and limits of a policy, whose names are those of the shell's flags.

    Raises
    ------
    SpecError
        For an unknown name or a value that makes no sense.

    Examples
    --------
    >>> money, limits = policy_flags({"currency": "EUR", "max_change": 0.15})
    >>> money.currency, limits.max_change
    ('EUR', 0.15)
    """
    from dataclasses import fields

    from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags

    names = {kind: {flag.name for flag in fields(kind)} for kind in (MoneyFlags, LimitFlags)}
    known = names[MoneyFlags] | names[LimitFlags]
    unknown = sorted(set(policy) - known)
    if unknown:
        raise SpecError(f"The policy has the unknown name {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    try:
        return (
            msgspec.convert({name: policy[name] for name in policy if name in names[MoneyFlags]}, readable(MoneyFlags)),
            msgspec.convert({name: policy[name] for name in policy if name in names[LimitFlags]}, readable(LimitFlags)),
        )
    except msgspec.ValidationError as error:
        raise SpecError(f"The policy: {error}.") from error
