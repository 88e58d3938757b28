"""What can go wrong, as types: every error says what was found, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check found: machine-readable code, place, plain words and the remedy.

    Examples
    --------
    >>> finding = Finding(code="price_never_moves", severity="warning", item="tea",
    ...                   message="its price never moved", remedy="test two prices")
    >>> finding.item
    'tea'
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    item: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a gate: passed or not, what was found, what to do."""

    code: str
    passed: bool
    finding: str
    remedy: str = ""


class PricingError(Exception):
    """Base of every error this package raises on purpose; the message says what, where and how to mend it."""


class SpecError(PricingError):
    """An option or a model specification makes no sense (exit code 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One way in which sales data break the contract of a panel.

    Attributes
    ----------
    code : str
        Machine-readable name, e.g. ``non_positive_price``.
    count : int
        Rows concerned; 0 where the problem is not one of rows (an unknown column).
    examples : tuple of dict
        Up to three of those rows, as {column: value}.
    message, remedy : str
        What was found and where; what to do.
    """

    code: str
    count: int
    message: str
    remedy: str
    examples: tuple[dict[str, object], ...] = ()

    def __str__(self) -> str:
        rows = "; ".join(", ".join(f"{name}={value!s}" for name, value in row.items()) for row in self.examples)
        return f"{self.message}{f', e.g. {rows}' if rows else ''}: {self.remedy}."


class PanelError(PricingError):
    """Sales data break the contract of a panel (exit code 2); `problems` and the message list every one.

    Examples
    --------
    >>> print(PanelError([Problem(code="negative_quantity", count=1, message="1 row has a negative quantity",
    ...                           remedy="book returns apart", examples=({"item": "tea", "quantity": -2.0},))]))
    1 row has a negative quantity, e.g. item=tea, quantity=-2.0: book returns apart.
    """

    def __init__(self, problems: Problem | list[Problem] | tuple[Problem, ...]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StorageError(PricingError):
    """A saved model or file cannot be read or written: missing, corrupted or of an unknown version (exit code 1)."""


class Refusal(PricingError):
    """The numbers asked for cannot honestly be given (exit code 3); `findings` say why and what would help.

    Examples
    --------
    >>> try:
    ...     raise Refusal([Finding(code="zeros", severity="error", message="40 % of rows sell nothing",
    ...                            remedy="fit a count model")])
    ... except Refusal as refusal:
    ...     print(refusal)
    40 % of rows sell nothing: fit a count model.
    """

    def __init__(self, findings: list[Finding] | tuple[Finding, ...]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(f"{finding.message}: {finding.remedy}." for finding in self.findings))
