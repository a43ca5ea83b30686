"""Progress where there is no terminal."""

import re
import time

from skymath_jax import console


def test_the_time_left_is_told_by_the_latter_half(monkeypatch, capsys):
  monkeypatch.setattr(console, "QUIET_SECONDS", 0.05)
  with console.bar("work", 100) as progress:
    progress.advance(50)  # what an earlier process paid for comes at once
    for _ in range(12):
      time.sleep(0.05)
      progress.advance()
  told = [int(left) for left in re.findall(r"about (\d+) s left", capsys.readouterr().err)]
  assert told[-1] >= 1  # 38 more at 20 a second
