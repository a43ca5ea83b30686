"""The error types for what a user did; anything else that escapes is our bug and keeps its traceback."""


class UserError(Exception):
  """A failure the user can mend: what was found, where, and how to put it right.

  Args:
    what: one sentence, what is wrong.
    where: file, `file:line`, config key or address it is about.
    remedy: one sentence, what to do.
  """

  def __init__(self, what: str, *, where: object = None, remedy: str | None = None):
    self.what, self.where, self.remedy = what, where, remedy
    parts = [f"{where}: {what}" if where is not None else what]
    if remedy:
      parts.append(remedy)
    super().__init__(" ".join(part if part.endswith(("?", ".")) else part + "." for part in parts))


class LostProcessError(UserError):
  """Another process of a job of several did not do its part: the same command on all hosts may well succeed."""


class UsageError(Exception):
  """A command line that cannot be understood."""
