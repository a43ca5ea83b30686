r"""Units of science by what one is in metres, grams, seconds …: `kJ/mol`, `J mol^{-1} K^{-1}`, `kilopascals`."""

import re
from fractions import Fraction

Dimension = tuple[tuple[str, int], ...]  # (base unit, power), in order

_PREFIXES = {
  "": 0, "G": 9, "M": 6, "k": 3, "d": -1, "c": -2, "m": -3, "u": -6, "μ": -6, "n": -9, "p": -12,
  "giga": 9, "mega": 6, "kilo": 3, "deci": -1, "centi": -2, "milli": -3, "micro": -6, "nano": -9, "pico": -12,
}  # fmt: skip
_UNITS: dict[str, tuple[int | Fraction, str]] = {  # symbol, names: worth, base units and powers
  "m meter metre": (1, "m 1"), "g gram": (1, "g 1"), "s second sec": (1, "s 1"), "A ampere amp": (1, "A 1"),
  "K kelvin": (1, "K 1"), "mol mole": (1, "mol 1"), "L l liter litre": (Fraction(1, 1000), "m 3"),
  "N newton": (1000, "g 1 m 1 s -2"), "J joule": (1000, "g 1 m 2 s -2"), "W watt": (1000, "g 1 m 2 s -3"),
  "Pa pascal": (1000, "g 1 m -1 s -2"), "V volt": (1000, "g 1 m 2 s -3 A -1"), "C coulomb": (1, "s 1 A 1"),
  "ohm Ω": (1000, "g 1 m 2 s -3 A -2"), "F farad": (Fraction(1, 1000), "g -1 m -2 s 4 A 2"), "Hz hertz": (1, "s -1"),
  "T tesla": (1000, "g 1 s -2 A -1"), "Wb weber": (1000, "g 1 m 2 s -2 A -1"), "H henry": (1000, "g 1 m 2 s -2 A -2"),
  "eV electronvolt": (Fraction(160218, 10**21), "g 1 m 2 s -2"), "cal calorie": (4184, "g 1 m 2 s -2"),
  "atm atmosphere": (101325000, "g 1 m -1 s -2"), "bar": (10**8, "g 1 m -1 s -2"),
  "min minute": (60, "s 1"), "h hr hour": (3600, "s 1"), "day": (86400, "s 1"),
}  # fmt: skip
_WHOLE = frozenset({"min", "minute", "h", "hr", "hour", "day", "atm", "atmosphere"})  # that take no prefix
_KNOWN = {
  prefix + name: (Fraction(worth) * Fraction(10) ** _PREFIXES[prefix], tuple(bases.split()))
  for names, (worth, bases) in reversed(_UNITS.items())
  for name in names.split()
  for prefix in _PREFIXES
  if not prefix or (name not in _WHOLE and (len(prefix) > 2) == (len(name) > 3))
}
_PART = re.compile(r"([A-Za-zμΩ]+)(?:\^\{?\s*(-?\d)\s*\}?|(-?\d))?")
_AFTER_NUMBER = re.compile(
  r"^(?P<value>.*?[\d)}]) ?"
  r"(?P<unit>(?:[A-Za-zμΩ]|\\mu(?![a-z])|\\Omega)(?:[A-Za-zμΩ\d\s/*().^{}-]|\\cdot(?![a-z])|\\mu\s?|\\Omega)*)$"
)


def with_unit(text: str) -> str:
  r"""`text` with the unit of science at its end as one `\text{…}`, where it can be nothing else; else as it is."""
  match = _AFTER_NUMBER.match(text)
  if match is None or not re.search(r"[/^*]|[A-Za-zμ]{2}|\\(?:mu|Omega)", match["unit"]):
    return text
  unit = _plain(match["unit"])
  if worth(unit) is None or re.search(
    r"\\(?:frac|text)|[a-zA-Z]", match["value"].replace("\\times", "").replace("\\pm", "")
  ):
    return text
  value = match["value"]
  return f"{f'({value})' if 'pm' in value and value[0] != '(' else value}\\text{{{unit}}}"


def _plain(unit: str) -> str:
  """A unit in one spelling: products by `*`, quotients by `/`, powers by `^`, without braces."""
  unit = re.sub(r"\\mu\s?", "μ", unit).replace("\\Omega", "Ω").replace("\\cdot", "*")
  unit = re.sub(r"[{}]", "", re.sub(r"\bper\b", "/", unit.strip()))
  unit = re.sub(r"/\s*\(([^()]*)\)", lambda m: "/" + re.sub(r"\s*\*\s*|\s+", "/", m[1].strip()), unit)
  return re.sub(r"\s*([*/])\s*", r"\1", re.sub(r"\s+(?=[A-Za-zμΩ])", "*", unit))


def worth(unit: str) -> tuple[Fraction, Dimension] | None:
  """What one of a unit is in base units, and which these are; None for what is no unit of science."""
  total, powers = Fraction(1), dict.fromkeys("mgsAK", 0)
  for index, part in enumerate(re.split(r"([*/])", _plain(unit))):
    if index % 2:
      continue
    match = _PART.fullmatch(part.strip())
    found = match and _found(match[1])
    if match is None or not found:
      return None
    power = int(match[2] or match[3] or 1) * (
      -1 if re.split(r"([*/])", _plain(unit))[index - 1 : index] == ["/"] else 1
    )
    total *= found[0] ** power
    for base, exponent in zip(found[1][::2], found[1][1::2], strict=True):
      powers[base] = powers.get(base, 0) + int(exponent) * power
  return total, tuple(sorted((base, power) for base, power in powers.items() if power))


def _found(name: str) -> tuple[Fraction, tuple[str, ...]] | None:
  for candidate in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
    if candidate in _KNOWN and (candidate == name or len(name) > 3):
      return _KNOWN[candidate]
  return None
