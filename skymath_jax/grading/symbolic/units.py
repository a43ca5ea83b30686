"""Units after a number: one spelling for each, and what one is worth in another of its kind.

A unit may be missing on one side (the number decides), but two units must agree: `5 cm` is not `5 m`, but `500 cm` is.
"""

import re
from fractions import Fraction

_NAMES = {
  "cm": "cm centimeter centimetre", "mm": "mm millimeter millimetre", "m": "m meter metre",
  "km": "km kilometer kilometre",
  "inch": "in inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile",
  "g": "g gram", "kg": "kg kilogram kilo",
  "mg": "mg milligram", "lb": "lb lbs pound", "oz": "oz ounce", "l": "l liter litre", "ml": "ml milliliter millilitre",
  "s": "s sec second", "min": "min minute", "h": "h hr hour", "day": "day d", "week": "week", "year": "year yr",
  "dollar": "dollar usd buck", "cent": "cent penny pennies", "mph": "mph milesperhour miles/hour mi/h mile/hour mi/hr",
  "kmh": "kmh kph km/h kilometersperhour km/hr", "m/s": "m/s meterspersecond m/sec",
  "rad": "rad radian", "unit": "unit",
  "degreec": "degreec celsius", "degreef": "degreef fahrenheit",
}  # fmt: skip
_ALIASES = {alias: unit for unit, aliases in _NAMES.items() for alias in aliases.split()}
_WORTH = {
  "mm": ("length", Fraction(1)), "cm": ("length", Fraction(10)), "m": ("length", Fraction(1000)),
  "km": ("length", Fraction(10**6)), "inch": ("length", Fraction(254, 10)), "ft": ("length", Fraction(3048, 10)),
  "yd": ("length", Fraction(9144, 10)), "mi": ("length", Fraction(1609344)),
  "mg": ("mass", Fraction(1)), "g": ("mass", Fraction(1000)), "kg": ("mass", Fraction(10**6)),
  "ml": ("volume", Fraction(1)), "l": ("volume", Fraction(1000)),
  "s": ("time", Fraction(1)), "min": ("time", Fraction(60)), "h": ("time", Fraction(3600)),
  "day": ("time", Fraction(86400)),
  "week": ("time", Fraction(604800)), "cent": ("money", Fraction(1)), "dollar": ("money", Fraction(100)),
}  # fmt: skip
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
NOT_UNITS = frozenset({
  "and", "or", "if", "is", "are", "not", "than", "then", "more", "less", "of", "for", "when", "where", "mod",
  "with", "to", "the", "half", "hundred", "thousand", "million", "billion", "trillion", "dozen", "pairs", "choose",
  "divided", "plus", "minus", "times",
})  # fmt: skip


def conversion(a: str | None, b: str | None) -> Fraction | None:
  """How many of unit `b` one of unit `a` is; 1 where a unit is missing or says nothing, None where they disagree."""
  if a is None or b is None:
    return Fraction(1)
  (name_a, power_a), (name_b, power_b) = canonical(a), canonical(b)
  if (name_a, power_a) == (name_b, power_b):
    return Fraction(1)
  if name_a in _WORTH and name_b in _WORTH and power_a == power_b and _WORTH[name_a][0] == _WORTH[name_b][0]:
    return (_WORTH[name_a][1] / _WORTH[name_b][1]) ** power_a
  return Fraction(1) if "unit" in (name_a, name_b) and power_a == power_b else None


def canonical(unit: str) -> tuple[str, int]:
  """(name, power) of a unit as it is written: `square inches` and `in^2` are ("inch", 2)."""
  text, power = unit.lower().replace(".", ""), 1
  if caret := re.search(r"\^(\d)$", text.strip()):
    text, power = text.strip()[: caret.start()], int(caret[1])
  words = [word for word in re.split(r"[\s-]+", text) if word]
  for word in [word for word in words if word in _POWERS]:
    power = _POWERS[word]
    words.remove(word)
  name = "".join(words)
  for candidate in (name, name.removesuffix("s"), name.removesuffix("es")):
    if candidate in _ALIASES:
      return _ALIASES[candidate], power
  return name.removesuffix("s"), power
