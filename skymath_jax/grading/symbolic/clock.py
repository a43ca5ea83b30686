"""Times of day: `15:00`, `3 pm`, `3:00 p.m.`."""

from skymath_jax.grading.symbolic.tree import Tree


def same_time(a: Tree, half_a: str | None, b: Tree, half_b: str | None) -> bool | None:
  """Whether two times are the same, of which one says am or pm: `15:00` is 3 pm; None where they are no times."""
  halves = {half_a or "am", half_b or "am"}
  if "clock" not in (a[0], b[0]) or not halves <= {"am", "pm"} or not (half_a or half_b):
    return None
  first, second = _minutes(a, half_a), _minutes(b, half_b)
  return bool(first & second)


def _minutes(time: Tree, half: str | None) -> set[int]:
  """The minutes since midnight that a clock, or an hour alone, may mean."""
  hours, minutes = (
    (int(time[1]), int(time[2])) if time[0] == "clock" else (int(time[1]), 0) if time[0] == "num" else (99, 0)
  )
  if half is None:
    return {hours * 60 + minutes, hours * 60 + 720 + minutes} if hours < 12 else {hours * 60 + minutes}
  return {hours % 12 * 60 + minutes + 720 * (half == "pm")} if hours <= 12 else set()
