"""A number as text, one way everywhere: a true minus sign, and no sign on what rounds to zero; a share has one digit."""

import math


def percent(share: float, digits: int = 1, sign: bool = False, unit: str = "") -> str:
    """Write a share in per cent; ``sign``: of a difference, with its sign. A dash, without the unit, if there is no value.

    >>> percent(0.2213), percent(-0.03, sign=True), percent(0.04, sign=True), percent(-0.0001, sign=True)
    ('22.1', '−3.0', '+4.0', '0.0')
    >>> percent(0.973, unit=" %"), percent(float("nan"), unit=" %")
    ('97.3 %', '–')
    """
    return number(math.nan if share is None else 100 * float(share), digits, sign, unit)


def number(value: float, digits: int = 3, sign: bool = False, unit: str = "") -> str:
    """Write a number that is no share in the same way.

    >>> number(-0.0712), number(-0.0001), number(2.5, 1, sign=True, unit=" nats")
    ('−0.071', '0.000', '+2.5 nats')
    """
    if math.isnan(value):
        return "–"
    value = round(value, digits) + 0.0
    return f"{value:{'+' if sign and value else ''}.{digits}f}{unit}".replace("-", "−")
