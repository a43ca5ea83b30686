"""Units after a number: one spelling for each, and what one is worth in another of its kind.

A unit may be missing on one side (the number decides), but two units must agree: `5 cm` is not `5 m`, but `500 cm` is.
"""

import itertools
import re
from fractions import Fraction

from skymath_jax.grading.symbolic import quantities

_NAMES = {
  "cm": "cm centimeter centimetre 厘米", "mm": "mm millimeter millimetre 毫米", "m": "m meter metre 米",
  "km": "km kilometer kilometre 千米 公里", "dm": "dm decimeter decimetre 分米",
  "inch": "in inch inches", "ft": "ft foot feet", "yd": "yd yard", "mi": "mi mile",
  "g": "g gram 克", "kg": "kg kilogram kilo 千克 公斤", "ton": "t ton tonne 吨",
  "mg": "mg milligram", "lb": "lb lbs pound", "oz": "oz ounce", "l": "l liter litre 升",
  "ml": "ml milliliter millilitre 毫升",
  "s": "s sec second 秒", "min": "min minute 分钟 分", "h": "h hr hour 小时 时", "day": "day d 天 日",
  "week": "week 周", "year": "year yr 年", "month": "month 月 个月", "yuan": "yuan 元",
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
  "week": ("time", Fraction(604800)), "month": ("months", Fraction(1)), "year": ("months", Fraction(12)),
  "dm": ("length", Fraction(100)), "ton": ("mass", Fraction(10**9)),
  "cent": ("money", Fraction(1)), "dollar": ("money", Fraction(100)),
}  # fmt: skip
_POWERS = {"平方": 2, "立方": 3, "square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_MEASURE = re.compile(
  r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:\\(?:text|mathrm)\s*\{\s*)?([a-zA-Z]+|[\u4e00-\u9fff]{1,2})\.?\s*\}?"
)
_MEASURES = re.compile(rf"{_MEASURE.pattern}(?:(?:\s|,|~|\\[ ,]|and|和|零|又)*{_MEASURE.pattern}){{1,3}}\.?")
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
  if "unit" in (name_a, name_b) and power_a == power_b:
    return Fraction(1)
  first, second = quantities.worth(a), quantities.worth(b)
  return first[0] / second[0] if first and second and first[1] == second[1] else None


def added_up(text: str) -> str:
  """`1 hour 30 minutes` and `5 feet 6 inches` as one measure, in the last of their units; other text as it is."""
  if _MEASURES.fullmatch(text) is None:
    return text
  parts = [(Fraction(part[1].replace(",", "")), *canonical(part[2])) for part in _MEASURE.finditer(text)]
  worths = [_WORTH[name] if name in _WORTH and power == 1 else ("", Fraction(0)) for _, name, power in parts]
  kinds, sizes = {kind for kind, _ in worths}, [worth for _, worth in worths]
  if len(kinds) > 1 or "" in kinds or any(a <= b for a, b in itertools.pairwise(sizes)):
    return text
  total = sum(value * worth for (value, *_), worth in zip(parts, sizes, strict=True)) / sizes[-1]
  return f"\\frac{{{total.numerator}}}{{{total.denominator}}}\\text{{{parts[-1][1]}}}"


def canonical(unit: str) -> tuple[str, int]:
  """(name, power) of a unit as it is written: `square inches` and `in^2` are ("inch", 2)."""
  text, power = re.sub("平方|立方", r"\g<0> ", unit.lower().replace(".", "")), 1
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
