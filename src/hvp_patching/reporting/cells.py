"""Numbers as the tables print them: percent, counts, intervals, differences, p-values, the paper's.

All take None and NaN for a number that does not exist.
"""

from __future__ import annotations

from math import isfinite, isinf, isnan

import pandas as pd

from hvp_patching.reporting.latex import Cell, Tex, grey

GAP = Tex("--")  # a number that does not exist
SMALL, LARGE = -2, 4  # powers of ten between which a number is printed without one


def percent(value: float | None) -> Tex:
    """A number of percent: two decimals below 10, one below 100, none above; ``GAP`` for none."""
    if value is None or isnan(value):
        return GAP
    if isinf(value):
        return _signed(value < 0, r"$\infty$")
    size = abs(value)
    decimals = 2 if round(size, 2) < 10 else 1 if round(size, 1) < 100 else 0
    digits = f"{size:.{decimals}f}"
    return _signed(value < 0 and float(digits) != 0, _grouped(digits))


def significant(value: float | None) -> Tex:
    """A number of any size: three digits, or two and a power of ten outside [0.01, 10,000)."""
    if value is None or isnan(value):
        return GAP
    if not isfinite(value):
        return _signed(value < 0, r"$\infty$")
    if value == 0:
        return Tex("0")
    power = int(f"{abs(value):.2e}".split("e")[1])
    if SMALL <= power < LARGE:
        return _signed(value < 0, _grouped(f"{abs(value):.{max(0, 2 - power)}f}"))
    mantissa, exponent = f"{value:.1e}".split("e")
    return Tex(rf"${mantissa}\times10^{{{int(exponent)}}}$")


def count(value: float | None) -> Tex:
    """A whole number with its thousands apart; ``GAP`` for none."""
    return GAP if value is None or isnan(value) else Tex(_grouped(f"{value:.0f}"))


def interval(low: float, high: float) -> Tex:
    """The ends of an interval in percent, small and in brackets; empty where there is none."""
    if pd.isna(low) or pd.isna(high):
        return Tex("")
    return Tex(rf"{{\scriptsize [{percent(low)}, {percent(high)}]}}")


def with_interval(text: Tex, low: float, high: float) -> Tex:
    """A number and the ends of its interval in percent, where it has one."""
    ends = interval(low, high)
    return Tex(f"{text}~{ends}" if ends else text)


def fixed(value: float | None, decimals: int = 2) -> Tex:
    """A number with fixed decimals, so that a column's points align; ``GAP`` for none."""
    if value is None or isnan(value):
        return GAP
    digits = f"{abs(value):.{decimals}f}"
    return Tex(f"$-${digits}" if value < 0 and float(digits) else digits)


def points(value: float | None, decimals: int = 2) -> Tex:
    """A difference in percentage points with its sign, plus included; ``GAP`` for none."""
    text = fixed(value, decimals)
    positive = value is not None and value > 0 and text != fixed(0.0, decimals)
    return Tex(f"$+${text}") if positive else text


def p_value(p: float | None) -> Tex:
    """Three decimals; ``GAP`` for none."""
    if p is None or isnan(p):
        return GAP
    return Tex(f"{p:.3f}") if p >= 0.0005 else Tex("$<$0.001")


def published_number(value: float | str | None, decimals: int = 1) -> Cell:
    """The paper's number in grey, with the decimals that it has there; empty where it has none."""
    if value is None or pd.isna(value):
        return None
    return grey(value if isinstance(value, str) else f"{value:.{decimals}f}")


def unsigned(value: float | None) -> Cell:
    """A difference of the paper's whose sign our copy of its text has lost, in grey."""
    return None if value is None or isnan(value) else grey(Tex(rf"$\pm${value:.2f}"))


def _grouped(digits: str) -> str:
    whole, point, decimals = digits.partition(".")
    return f"{int(whole):,}".replace(",", "{,}") + point + decimals


def _signed(negative: bool, digits: str) -> Tex:
    return Tex(f"$-${digits}" if negative else digits)
