r"""Characters beyond ASCII as the LaTeX that they stand for, and LaTeX that lost its back-slashes on the way."""

import re
import unicodedata

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SYMBOLS = {
  "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
  "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
  "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∈": r"\in ", "∅": r"\emptyset ",
  "Ø": r"\emptyset ", "ℝ": r"\reals ", "º": "°", "˚": "°", "′": "'", "’": "'", "‘": "'", "“": '"', "”": '"',
  "…": r"\ldots ", "⋯": r"\ldots ", "⟨": r"\langle ", "⟩": r"\rangle ", "√": r"\sqrt ", "∛": r"\sqrt[3]",
  "，": ",", "、": ",", "；": ";", "∣": "|", "∀": r"\forall ", "∃": r"\exists ",
  "∋": r"\ni ", "∉": r"\not\in ", "∌": r"\not\ni ", "⊃": r"\supset ", "⊇": r"\supseteq ",
  "⊄": r"\not\subset ", "⊅": r"\not\supset ", "⊈": r"\not\subseteq ", "⊉": r"\not\supseteq ",
  "→": r"\rightarrow ", "⇒": r"\Rightarrow ",
  "∠": r"\angle ", "△": r"\triangle ", "⊂": r"\subset ", "⊆": r"\subseteq ", "⊥": r"\perp ", "∥": r"\parallel ",
  "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∶": ":",
  **dict.fromkeys("−–—‐‑", "-"), **dict.fromkeys("£€¥₹₩₽₺₫₱₦฿\u200b\ufeff\u2061\u2062\xad", ""),
}  # fmt: skip
_VULGAR = (
  "½1/2", "⅓1/3", "⅔2/3", "¼1/4", "¾3/4", "⅕1/5", "⅖2/5", "⅗3/5", "⅘4/5", "⅙1/6", "⅚5/6", "⅛1/8", "⅜3/8", "⅝5/8",
  "⅞7/8",
)  # fmt: skip
_SYMBOLS |= {item[0]: f"\\frac{{{item[1]}}}{{{item[3]}}}" for item in _VULGAR}
_GREEK = (
  "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
  "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_LETTERS_OF_GREEK = {chr(0x3B1 + i + (i > 16)): f"\\{name} " for i, name in enumerate(_GREEK)}
_LETTERS_OF_GREEK |= {chr(0x391 + i + (i > 16)): f"\\{name.capitalize()} " for i, name in enumerate(_GREEK)}
_SYMBOLS |= {"µ": "μ", "℃": "°C", "Ω": "Ω"}
_SYMBOLS |= {"٫": ".", "٬": ","}
_TABLE = str.maketrans(_SYMBOLS | _LETTERS_OF_GREEK)
_OTHER_DIGITS = re.compile(r"[^\W\D0-9]")  # of Arabic, Hindi, Bengali, Thai …
_ESCAPES = re.compile(
  r"\x0c(?=rac)|\x08(?=oxed|egin|inom|eta|ar|ig|oldsymbol)|\t(?=ext|imes|frac|heta|an[^a-z]|au[^a-z]|riangle)"
  r"|\r(?=ight|ho[^a-z]|angle|floor|ceil)|\x07(?=lpha|ngle|pprox)|\x0b(?=ec[^a-z]|ert|arnothing)|\n(?=eq[^a-z])"
)  # LaTeX that went through a string literal: a form feed and `rac` was a fraction
_LETTERS = dict(zip("\x0c\x08\t\r\x07\x0b\n", "fbtravn", strict=True))


def latex_of(text: str) -> str:
  r"""`text` with `½`, `√`, `x²`, `①`, `π` and the like in LaTeX; compatibility forms (full width) are unified."""
  text = _ESCAPES.sub(lambda m: "\\" + _LETTERS[m[0]], text)
  text = re.sub(r"(?:\d[\u0304\u0305])+", lambda m: f"\\overline{{{re.sub('[^0-9]', '', m[0])}}}", text)
  text = text.replace("\u20d7", "").replace("根号", "√")
  text = re.sub(r"(\d)\u0307", r"\\dot{\1}", text)
  text = re.sub("[①-⑳]", lambda m: f" {ord(m[0]) - 0x245F}, ", text)
  text = re.sub(r"\\textcircled\s*\{\s*(\d+)\s*\}", r" \1, ", text)
  text = re.sub(f"[{''.join(_SUPERSCRIPTS)}]+", lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[0]) + "}", text)
  text = re.sub(f"[{''.join(_SUBSCRIPTS)}]+", lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[0]) + "}", text)
  text = unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)
  return _OTHER_DIGITS.sub(lambda m: str(unicodedata.decimal(m[0])), text)
