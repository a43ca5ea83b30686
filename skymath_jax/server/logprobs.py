"""Log-probabilities of tokens in OpenAI's two forms, `logprobs` of completions and of chats.

They are those of the model itself, before temperature and the like: one pass over prompt and response.
"""

from collections.abc import Callable, Sequence
from typing import Any

from skymath_jax.engine.engine import Scores

Decode = Callable[[Sequence[int]], str]


def of_completion(
  prompt: Sequence[int],
  response: Sequence[int],
  scores: Scores,
  decode: Decode,
  *,
  top: int,
  echo: bool,
  silent: bool = False,
) -> dict[str, Any]:
  """`logprobs` of a choice of `/v1/completions`; of the prompt's tokens, too, if they are echoed.

  Where the model ended at once, its end token stands for the response: who reads the last entry finds what came next.

  Args:
    silent: leave the response out.
  """
  tokens = [*prompt, *response]
  if silent:
    tokens = list(prompt)
  elif not response and len(scores.top_ids[-1]):
    tokens.append(int(scores.top_ids[-1][0]))
  first = 0 if echo else len(prompt)
  words = [decode([token]) for token in tokens]
  offsets = [0]
  for word in words[first:]:
    offsets.append(offsets[-1] + len(word))
  likeliest: list[dict[str, float] | None] = []
  logprobs: list[float | None] = []
  for place in range(first, len(tokens)):
    behind = place - 1
    if behind < 0:
      logprobs.append(None)
      likeliest.append(None)
      continue
    ended = place == len(scores.logprobs)  # the end token itself
    own = float(scores.top_logprobs[behind][0] if ended else scores.logprobs[behind])
    logprobs.append(own)
    likeliest.append(_likeliest(scores, behind, decode, top) if top else {words[place]: own})
  return {"tokens": words[first:], "token_logprobs": logprobs, "top_logprobs": likeliest, "text_offset": offsets[:-1]}


def of_chat(
  prompt: Sequence[int], response: Sequence[int], scores: Scores, decode: Decode, *, top: int
) -> dict[str, Any]:
  """`logprobs` of a choice of `/v1/chat/completions`."""
  content = []
  for place, token in enumerate(response, len(prompt)):
    entry = _entry(decode([token]), float(scores.logprobs[place - 1]))
    ranked = zip(scores.top_ids[place - 1][:top], scores.top_logprobs[place - 1][:top], strict=True)
    content.append({**entry, "top_logprobs": [_entry(decode([int(i)]), float(value)) for i, value in ranked]})
  return {"content": content, "refusal": None}


def _entry(word: str, logprob: float) -> dict[str, Any]:
  return {"token": word, "logprob": logprob, "bytes": list(word.encode())}


def _likeliest(scores: Scores, behind: int, decode: Decode, top: int) -> dict[str, float]:
  """Text of a token → log-probability; of several tokens of one text that of the likeliest."""
  found: dict[str, float] = {}
  for token, value in zip(scores.top_ids[behind][:top], scores.top_logprobs[behind][:top], strict=True):
    found.setdefault(decode([int(token)]), float(value))
  return found
