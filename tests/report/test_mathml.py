"""Formulas as MathML: what is known is drawn, what is not stays as written, and no text gets out as markup."""

import random
import xml.etree.ElementTree as ET

import pytest

from skymath_jax.report.mathml import mathematics

PIECES = [
  "x", "12", "+", "-", "=", "<", ">", "&", "^", "_", "{", "}", "\\frac", "\\sqrt", "[", "]", "\\text", "\\pi", "\\le",
  "\\left", "\\right", "(", ")", ".", "'", "\\\\", "\\unknown", " ", '"', "<script>", "\\boxed", "$", "\\(", "\\]",
]  # fmt: skip


def tree(text):
  return ET.fromstring(f"<p>{mathematics(text)}</p>")


@pytest.mark.parametrize(
  ("latex", "drawn"),
  [
    (r"\frac{1}{2}", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
    (r"\frac12", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
    (r"\dfrac{a+b}{c}", "<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mi>c</mi></mfrac>"),
    ("x_1^2", "<msubsup><mi>x</mi><mn>1</mn><mn>2</mn></msubsup>"),
    ("x^{10}", "<msup><mi>x</mi><mn>10</mn></msup>"),
    ("x^10", "<msup><mi>x</mi><mn>1</mn></msup><mn>0</mn>"),
    ("f'(x)", "<msup><mi>f</mi><mo>′</mo></msup><mo>(</mo><mi>x</mi><mo>)</mo>"),
    (r"\sqrt[3]{2}", "<mroot><mn>2</mn><mrow><mn>3</mn></mrow></mroot>"),
    (r"a \le b - 1", "<mi>a</mi><mo>≤</mo><mi>b</mi><mo>−</mo><mn>1</mn>"),
    (r"\boxed{42}", "<mn>42</mn>"),
    (r"\left(\tfrac{1}{2}\right.", "<mo>(</mo><mfrac><mn>1</mn><mn>2</mn></mfrac>"),
    (r"3\text{ if } x", "<mn>3</mn><mtext>if </mtext><mi>x</mi>".replace("if ", " if ")),
    (r"1{,}000\%", "<mn>1</mn><mo>,</mo><mn>000</mn><mo>%</mo>"),
    (r"\binom{n}{2}", '<mrow><mo>(</mo><mfrac linethickness="0"><mi>n</mi><mn>2</mn></mfrac><mo>)</mo></mrow>'),
  ],
)
def test_a_formula(latex, drawn):
  for before, after, attributes in (("$", "$", ""), (r"\(", r"\)", ""), (r"\[", r"\]", ' display="block"')):
    assert mathematics(f"{before}{latex}{after}") == f"<math{attributes}>{drawn}</math>"


@pytest.mark.parametrize("text", ["It costs $5 and $6.", "$3.50 for 2 and $7 for 4", "a \\$ b \\$ c", "5$", "$ x $"])
def test_money_is_no_formula(text):
  assert mathematics(text) == text


@pytest.mark.parametrize("latex", [r"\begin{matrix}1\end{matrix}", "x^", "{x", "x^1^2", "{" * 60 + "x" + "}" * 60])
def test_what_is_not_known_stays_as_written(latex):
  assert mathematics(f"${latex}$") == f"<code>${latex}$</code>"


def test_no_text_gets_out_as_markup():
  rng = random.Random(0)
  known = {"p", "code", "math", "mi", "mn", "mo", "mrow", "mfrac", "msub", "msup", "msubsup", "msqrt", "mroot", "mtext"}
  for _ in range(2000):
    text = "".join(rng.choices(PIECES, k=rng.randint(1, 14)))
    for whole in (text, f"${text}$"):
      assert {element.tag for element in tree(whole).iter()} <= known | {"mspace", "mover"}, whole
