"""Numbers as a reader wants them: probabilities with their word, money, prices, shares, and what a period is called."""

from __future__ import annotations

import math
from datetime import date

from bayes_pricing.data.panel import PanelSummary

SCALE = (
    (0.99, "virtually certain"),
    (0.95, "extremely likely"),
    (0.90, "very likely"),
    (0.66, "likely"),
    (0.33, "about as likely as not"),
    (0.10, "unlikely"),
    (0.05, "very unlikely"),
    (0.01, "extremely unlikely"),
)
PERIODS = ((0.9, 1.1, "day"), (6.5, 7.5, "week"), (13.0, 15.0, "fortnight"), (27.0, 32.0, "month"),
           (88.0, 94.0, "quarter"), (360.0, 370.0, "year"))  # fmt: skip
PERIOD = "period"


def likelihood_word(probability: float) -> str:
    """Verbal probability on the IPCC scale, its ranges made not to overlap; each word's lower edge belongs to it.

    References
    ----------
    Mastrandrea et al. (2010), "Guidance note for lead authors of the IPCC Fifth Assessment Report".

    Examples
    --------
    >>> likelihood_word(0.78), likelihood_word(0.5), likelihood_word(0.004)
    ('likely', 'about as likely as not', 'exceptionally unlikely')
    """
    return next((word for edge, word in SCALE if probability >= edge), "exceptionally unlikely")


def percent(probability: float) -> str:
    """A probability as whole per cent, never as certainty.

    Examples
    --------
    >>> percent(0.784), percent(0.9999), percent(0.0)
    ('78 %', 'over 99 %', 'under 1 %')
    """
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def likely(probability: float) -> str:
    """Word and number together; where rounding would carry the number into the next word's range it keeps a decimal.

    Examples
    --------
    >>> likely(0.78), likely(0.6573)
    ('likely, 78 %', 'about as likely as not, 65.7 %')
    """
    word, number = likelihood_word(probability), percent(probability)
    if probability < 0.99 and likelihood_word(round(probability, 2)) != word:
        number = f"{math.floor(1000.0 * probability) / 10.0:.1f} %"
    return f"{word}, {number}"


def share(value: float) -> str:
    """A setting that is a share, as per cent with as many decimals as it has, at most two.

    Examples
    --------
    >>> share(0.15), share(0.025)
    ('15 %', '2.5 %')
    """
    return f"{100.0 * value:.2f}".rstrip("0").rstrip(".") + " %"


def amount(value: float) -> str:
    """A number with as many digits as a reader can use, without its sign.

    Examples
    --------
    >>> amount(-1234.5), amount(12.345), amount(0.01234)
    ('1,234', '12.3', '0.012')
    """
    size = abs(value)
    if size >= 100:
        return f"{size:,.0f}"
    if size >= 10:
        return f"{size:.1f}"
    return f"{size:.2f}" if size >= 1 or size == 0 else f"{size:.2g}"


def signed(value: float) -> str:
    """An amount with its sign.

    Examples
    --------
    >>> signed(12.345), signed(-0.5)
    ('+12.3', '-0.5')
    """
    return f"{'-' if value < 0 else '+'}{amount(value)}"


def price(value: float) -> str:
    """A price with two decimals, below one tenth with three digits that count.

    Examples
    --------
    >>> price(9.5), price(0.0345)
    ('9.50', '0.0345')
    """
    return f"{value:,.2f}" if value >= 0.1 else f"{value:.3g}"


def joined(parts: tuple[str, ...]) -> str:
    """Parts as a list in a sentence.

    Examples
    --------
    >>> joined(("a",)), joined(("a", "b", "c"))
    ('a', 'a, b and c')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def period_word(first: date | int | None, last: date | int | None, periods: float) -> str:
    """What one of so many periods between two days is called; ``period`` where the calendar does not say.

    Examples
    --------
    >>> period_word(date(2025, 1, 6), date(2025, 4, 7), 13), period_word(1, 14, 13)
    ('week', 'period')
    """
    if isinstance(first, date) and isinstance(last, date) and periods > 0:
        days = (last - first).days / periods
        return next((name for low, high, name in PERIODS if low <= days <= high), PERIOD)
    return PERIOD


def calendar_word(summary: PanelSummary) -> str:
    """What a period of a panel is called, by its calendar; ``period`` where that does not say."""
    return period_word(summary.first_period, summary.last_period, summary.periods - 1)


def calendar_days(summary: PanelSummary) -> float | None:
    """Days from one period of a panel to the next; None where periods are numbers, or fewer than two."""
    first, last = summary.first_period, summary.last_period
    if isinstance(first, date) and isinstance(last, date) and summary.periods > 1:
        return (last - first).days / (summary.periods - 1)
    return None
