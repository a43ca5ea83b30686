import pytest

from skymath_jax.server.text import TextStream


def decode(ids):
  return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
  ("text", "stop", "shown"),
  [
    ("naïve ∑ 数学 😀 end", (), "naïve ∑ 数学 😀 end"),
    ("Question: 2\n\nQuestion: 3", ("\n\nQ",), "Question: 2"),
    ("almost \n\nno stop\n\n", ("\n\nQ",), "almost \n\nno stop\n\n"),
    ("first STOP second END", ("END", "STOP"), "first "),
  ],
)
def test_pieces_add_up_and_never_show_what_is_taken_back(text, stop, shown, chunk):
  stream, data, sofar = TextStream(decode, stop), list(text.encode()), ""
  for start in range(0, len(data), chunk):
    sofar += stream.feed(data[start : start + chunk])
    assert shown.startswith(sofar)
  assert sofar + stream.end() == shown
