"""A share as text, one way everywhere: one digit, a true minus sign, and no sign on what rounds to zero."""

import math


def percent(share: float, digits: int = 1, sign: bool = False) -> str:
    """Write a share in per cent, without the unit; ``sign``: of a difference, with its sign. A dash if there is no value.

    >>> percent(0.2213), percent(-0.03, sign=True), percent(0.04, sign=True), percent(-0.0001, sign=True)
    ('22.1', '−3.0', '+4.0', '0.0')
    """
    if share is None or math.isnan(share):
        return "–"
    value = round(100 * float(share), digits) + 0.0
    return f"{value:{'+' if sign and value else ''}.{digits}f}".replace("-", "−")
