"""What the bodies of requests mean, without a server."""

import pydantic
import pytest

from skymath_jax.server.forms import ChatCompletion, Completion


def test_values_by_which_others_say_nothing_mean_nothing():
  form = Completion(prompt="x", max_tokens=-1, stop=["", "END"])
  asked = form.sampling(0, 50)
  assert (asked.max_tokens, asked.stop) == (50, ("END",))
  assert Completion(prompt="x", stop="").sampling(0, 50).stop == ()
  assert Completion(prompt="x", max_tokens=7, max_completion_tokens=-1).sampling(0, 50).max_tokens == 7


def test_a_piece_of_a_message_is_text_or_refused():
  pieces = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"text": "c"}]
  form = ChatCompletion(messages=[{"role": "user", "content": pieces}])
  assert form.messages[0].as_text() == {"role": "user", "content": "abc"}
  with pytest.raises(pydantic.ValidationError, match="type"):
    ChatCompletion(messages=[{"content": [{"type": "image_url", "text": "", "image_url": {"url": "x"}}]}])
