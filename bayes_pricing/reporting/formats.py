"""Numbers as people read them: few digits, a real minus sign, thousands apart, intervals in brackets."""

from __future__ import annotations

import math

MINUS = "−"
ABSENT = "–"


def plain(value: float | None, digits: int = 3) -> str:
    """Write a number with about `digits` significant digits and thousands apart; a dash where there is none.

    Examples
    --------
    >>> plain(1234.56), plain(-2.3456), plain(0.01234), plain(None), plain(-0.0001, digits=1)
    ('1,235', '−2.35', '0.0123', '–', '−0.0001')
    """
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Write a change: like :func:`plain`, with a plus sign in front of a gain.

    Examples
    --------
    >>> signed(12.345), signed(-12.345), signed(0.0)
    ('+12.3', '−12.3', '0')
    """
    text = plain(value, digits)
    return f"+{text}" if value is not None and value > 0 else text


def price(value: float | None) -> str:
    """Write a price to the cent.

    Examples
    --------
    >>> price(1234.5), price(None)
    ('1,234.50', '–')
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.2f}".replace("-", MINUS)


def percent(share: float | None, digits: int = 0) -> str:
    """Write a share in [0, 1] as per cent; never 0 or 100 where the share is not exactly that.

    Examples
    --------
    >>> percent(0.784), percent(0.9999), percent(0.0001), percent(1.0), percent(0.1234, digits=1)
    ('78 %', '> 99 %', '< 1 %', '100 %', '12.3 %')
    """
    if share is None or math.isnan(share):
        return ABSENT
    smallest = 10.0**-digits
    if 0 < share < 1 and 100 * share < smallest / 2:
        return f"< {smallest:.{digits}f} %"
    if 0 < share < 1 and 100 * (1 - share) < smallest / 2:
        return f"> {100 - smallest:.{digits}f} %"
    return f"{100 * share:.{digits}f} %".replace("-", MINUS)


def odds(probability: float | None) -> str:
    """Write a probability that was counted on draws: never 0 or 100 %, which no number of draws can show.

    Examples
    --------
    >>> odds(1.0), odds(0.0), odds(0.784), odds(None)
    ('> 99 %', '< 1 %', '78 %', '–')
    """
    if probability is None or math.isnan(probability):
        return ABSENT
    return percent(min(max(probability, 1e-9), 1.0 - 1e-9))


def percent_change(fraction: float | None, digits: int = 1) -> str:
    """Write a relative change as per cent with its sign.

    Examples
    --------
    >>> percent_change(0.15), percent_change(-0.0333), percent_change(0.0)
    ('+15.0 %', '−3.3 %', '0.0 %')
    """
    if fraction is None or math.isnan(fraction):
        return ABSENT
    text = f"{100 * fraction:.{digits}f} %".replace("-", MINUS)
    return f"+{text}" if fraction > 0 else text


def interval(lower: float | None, upper: float | None, digits: int = 3) -> str:
    """Write an interval in brackets.

    Both ends get the decimals that the larger one needs, so that they can be compared.

    Examples
    --------
    >>> interval(-2.5, -1.25), interval(-12.5, 1200.0), interval(None, 1.0)
    ('[−2.50 to −1.25]', '[−12 to 1,200]', '–')
    """
    if lower is None or upper is None or math.isnan(lower) or math.isnan(upper):
        return ABSENT
    ends = [end for end in (lower, upper) if math.isfinite(end)]
    largest = max((abs(end) for end in ends), default=0.0)
    if math.isinf(lower) or math.isinf(upper) or largest == 0:
        return f"[{plain(lower, digits)} to {plain(upper, digits)}]"
    decimals = max(0, digits - 1 - math.floor(math.log10(largest)))
    texts = (f"{end:,.{decimals}f}".replace("-", MINUS) for end in (lower, upper))
    return "[" + " to ".join(texts) + "]"


def whole(number: int) -> str:
    """Write a whole number with thousands apart.

    Examples
    --------
    >>> whole(12345)
    '12,345'
    """
    return f"{number:,}"


def glued(text: str) -> str:
    """Keep a number and its per cent sign on one line.

    Examples
    --------
    >>> glued("likely, 78 %") == "likely, 78\\u00a0%"
    True
    """
    return text.replace(" %", "\u00a0%")
