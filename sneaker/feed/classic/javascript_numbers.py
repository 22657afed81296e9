"""Numbers as JavaScript reads and prints them: IEEE doubles, in the spelling of ECMAScript's ``Number::toString``."""

from __future__ import annotations

__all__ = ["SAFE_INTEGER", "format_integer", "format_number", "read_number"]

#: Integers up to here are the same as int and as double; beyond, V8 prints what the double says.
SAFE_INTEGER = 2**53 - 1


def format_number(number: float) -> str:
    """Return ECMAScript's ``Number::toString`` of a double; NaN and the infinities are ``null``, as in JSON.

    ``repr`` has the right digits (the shortest that read back the same), only its exponents start elsewhere.
    """
    if number != number or number in (float("inf"), float("-inf")):
        return "null"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    # The number is 0.DIGITS times ten to the power of POINT.
    digits = whole + fraction
    point = len(whole) + int(exponent or "0")
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{power}"


# More digits than the longest exact decimal expansion of a midpoint between doubles (767) change nothing but the
# time that float() takes, which is quadratic in them.
_LONG_NUMBER = 1200


def read_number(text: str) -> int | float:
    """Return the double a JSON number stands for, as an int where that says the same."""
    if len(text) < 16 and text.lstrip("-").isdigit():
        return int(text)
    number = float(text) if len(text) <= _LONG_NUMBER else _read_long_number(text)
    return int(number) if -SAFE_INTEGER <= number <= SAFE_INTEGER and number == int(number) else number


def _read_long_number(text: str) -> float:
    """Read a number with very many digits in linear time; the digits left out are replaced by one that is not 0."""
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0.0
    dropped = len(digits) - 800
    if dropped > 0:
        digits = digits[:800] + ("1" if digits[800:].strip("0") else "0")
        dropped -= 1
    else:
        dropped = 0
    exponent_digits = exponent.lstrip("+-").lstrip("0") or "0"
    # Ten digits of exponent already mean zero or infinity, for any text that fits into memory.
    power = int(exponent_digits) if len(exponent_digits) <= 12 else 10**12
    power = -power if exponent.startswith("-") else power
    return float(f"{sign}{digits}e{power + dropped - len(fraction)}")


def format_integer(number: int) -> str:
    """Return ECMAScript's spelling of the double that is nearest to an integer; ``null`` if there is none."""
    if -SAFE_INTEGER <= number <= SAFE_INTEGER:
        return str(number)
    try:
        return format_number(float(number))
    except OverflowError:
        return "null"
