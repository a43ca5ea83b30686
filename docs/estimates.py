"""The table of recipe.md: hours and costs of the paper's training, from 6·N·tokens at a stated MFU. All estimates.

python docs/estimates.py
"""

from skymath_jax import hardware

EXAMPLES = 32 * (202_500 + 37_500)  # Skywork-Math section 4.1.3
TOKENS_AN_EXAMPLE = 350  # an assumption
PARAMETERS = 7.24e9  # Mistral-7B

SLICES = (  # name, assumed MFU, USD a chip and hour (as in settings.sh)
  ("v4-32", 0.45, 3.22),
  ("v5e-16", 0.45, 1.20),
  ("v5p-16", 0.50, 4.20),
  ("v6e-8", 0.40, 2.70),
  ("h200", 0.45, None),
)


def rows() -> list[str]:
  """The lines of the table's body."""
  flops = 6 * PARAMETERS * EXAMPLES * TOKENS_AN_EXAMPLE
  lines = []
  for name, mfu, usd in SLICES:
    machine = hardware.find(name)
    hours, chips = flops / (machine.devices * machine.chip.flops * mfu) / 3600, machine.chips
    price, total = (f"{usd * chips:.2f}", f"{round(hours * usd * chips, -1):.0f}") if usd else ("yours", "")
    lines.append(f"| {name} | {chips} | {mfu:.0%} | {hours:.0f} | {price} | {total} |".replace("%", " %"))
  return lines


if __name__ == "__main__":
  print("\n".join(rows()))
