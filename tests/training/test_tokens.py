"""Tokens are made once: by any number of processes the same, kept with what they were made of, mapped when read."""

import shutil

import numpy as np
import pytest

from skymath_jax import tokenizer
from skymath_jax.chat import encoding
from skymath_jax.errors import UserError
from skymath_jax.training import tokens
from skymath_jax.training.examples import select
from tests.support.doubles import some_rows
from tests.support.tokenizer_families import FOLDERS

CHATML = """{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ eos_token }}
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


class Rows(list):
  """Counts how often it is gone through."""

  fingerprint, read = "rows", 0

  def __iter__(self):
    self.read += 1
    return super().__iter__()


def source(count=40):
  return Rows({"query": query, "response": response} for query, response in some_rows(count).rows)


@pytest.fixture
def words(tmp_path):
  FOLDERS["smollm"](tmp_path / "words")
  (tmp_path / "words" / "chat_template.jinja").write_text(CHATML)
  return tokenizer.load(tmp_path / "words")


def same(one, two):
  assert one.largest == two.largest
  for name in tokens.ARRAYS:
    np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_worker_processes_make_the_same_tokens_and_name_the_row(words, monkeypatch):
  rows = source()
  alone = tokens.make(rows, words, "chat")
  monkeypatch.setattr(encoding, "PIECE", 3)
  monkeypatch.setattr(encoding, "FEW", 2)
  pieces = list(encoding.encode(rows, words, "chat", processes=2))
  assert len(pieces) == 14
  for name in tokens.ARRAYS:
    np.testing.assert_array_equal(np.concatenate([getattr(piece, name) for piece in pieces]), getattr(alone, name))
  rows[31] = {"query": "a"}
  with pytest.raises(UserError, match="row 31: the row has no key 'response'"):
    list(encoding.encode(rows, words, "chat", processes=2))


def test_what_is_kept_is_read_again_until_something_else_is_asked_for(words, tmp_path):
  rows, folder = source(), tmp_path / "tokens"
  rows[7] = {"query": "q", "response": ""}
  tokens.keep(folder, rows, words, "chat")
  same(tokens.open(folder), tokens.make(rows, words, "chat"))
  assert isinstance(tokens.open(folder).tokens, np.memmap)
  read = rows.read
  tokens.keep(folder, rows, words, "chat")
  assert rows.read == read
  for template, change in (("sft/alpaca", {}), ("chat", {"fingerprint": "other"})):
    vars(rows).update(change)
    tokens.keep(folder, rows, words, template)
    read += 1
    assert rows.read == read
    same(tokens.open(folder), tokens.make(rows, words, template))
    read += 1
  spoken = words.speaking(CHATML.replace("assistant", "model"), words.end_ids)
  assert tokens.key(rows, spoken, "chat") != tokens.key(rows, words, "chat")
  found = select(tokens.open(folder), max_length=60, max_untrained_share=0.1)
  assert found.untrained == 1 and found.over_long > 0 and len(found) == 39 - found.over_long
  assert found.lengths.max() <= 60 and sum(found.trained[found.place(3)]) == found.targets[3]
  with (folder / "trained").open("r+b") as file:
    file.truncate(100)
  with pytest.raises(UserError, match="trained: damaged"):
    tokens.open(folder)


def test_a_template_that_refuses_one_conversation_of_many_names_its_row(words, tmp_path):
  path = tmp_path / "odd.jinja"
  path.write_text("{% if 'bad' in messages[0].content %}{{ raise_exception('no') }}{% endif %}" + CHATML)
  rows = Rows([{"query": "good", "response": "r"}, {"query": "bad", "response": "r"}])
  with pytest.raises(UserError, match=r"row 1: the chat template refuses these messages \(no\)"):
    tokens.make(rows, words, str(path))


def test_kept_tokens_that_are_damaged_are_named_and_made_again_when_their_folder_is_removed(words, tmp_path):
  rows, folder = source(), tmp_path / "tokens"
  tokens.keep(folder, rows, words, "chat")
  for name in tokens.ARRAYS:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(UserError) as caught:
      tokens.keep(folder, rows, words, "chat")
    assert f"{name} changed" in str(caught.value) and f"remove {folder}/, then" in str(caught.value)
    shutil.rmtree(folder)
    tokens.keep(folder, rows, words, "chat")
  same(tokens.open(folder), tokens.make(rows, words, "chat"))
