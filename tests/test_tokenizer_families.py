"""The tokenizers that real models come with, built in small, against transformers: ids and text.

All 10,000 strings, and real models where they are installed: pytest -m slow -s tests/test_tokenizer_families.py
"""

import json
from pathlib import Path

import pytest
import sentencepiece

from skymath_jax import tokenizer
from tests.support.tokenizer_families import FOLDERS, LLAMA, LOOK_ALIKES, STRINGS, llama_model, strings, write

transformers = pytest.importorskip("transformers")
REAL = Path("~/.cache/skymath/models").expanduser()  # as benchmarks/real_models.py leaves them


@pytest.fixture(scope="module", params=FOLDERS)
def both(request, tmp_path_factory):
  """(transformers' tokenizer, ours, ours after a trip through `save`)."""
  folder = FOLDERS[request.param](tmp_path_factory.mktemp("words"))
  ours = tokenizer.load(folder)
  ours.save(folder / "again")
  return transformers.AutoTokenizer.from_pretrained(folder), ours, tokenizer.load(folder / "again")


def differences(theirs, ours, texts):
  """Strings of which transformers makes other ids, or other text of the ids."""
  wanted = theirs(texts, add_special_tokens=False).input_ids
  said = theirs.batch_decode(wanted, skip_special_tokens=True)
  pairs = zip(texts, wanted, said, strict=True)
  return [text for text, ids, back in pairs if ours.encode(text) != ids or ours.decode(ids) != back]


def test_ids_and_text_are_those_of_transformers(both):
  theirs, ours, again = both
  assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_id)
  filled_in = 5 if type(theirs).__name__ == "CodeLlamaTokenizer" else 0  # it adds these where a vocabulary lacks them
  assert len(theirs) == ours.vocab_size + filled_in
  texts = strings()[:2000]
  assert not differences(theirs, ours, texts)
  assert theirs(texts[:50]).input_ids == [[*ours.encode(text, bos=True), *ours.after] for text in texts[:50]]
  assert [again.encode(text) for text in texts] == [ours.encode(text) for text in texts]
  for text in texts[:500]:
    ids, spans = ours.encode_spans(text)
    assert ids == ours.encode(text) and len(spans) == len(ids)
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)
  if str(theirs.backend_tokenizer.decoder).startswith("ByteLevel"):  # others differ in whose a blank is
    places = theirs(texts, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    assert [ours.encode_spans(text)[1] for text in texts] == places


@pytest.mark.slow
def test_all_strings_in_all_families_and_real_models(tmp_path, capsys):
  folders = {name: make(tmp_path / name.replace(" ", "_")) for name, make in FOLDERS.items()}
  folders |= {path.name: path for path in sorted(REAL.glob("*")) if (path / "tokenizer.json").exists()}
  found = {}
  for name, folder in folders.items():
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found[name] = len(differences(theirs, tokenizer.load(folder), list(strings())))
    with capsys.disabled():
      print(f"\n{name}: {STRINGS} strings, {found[name]} differences", end="")
  assert len(found) >= 12 and not any(found.values())


def test_text_comes_back(both):
  """What is not a special token, begins with no blank where blanks are added, and is in the normal form: whole."""
  theirs, ours, _ = both
  special = (*LOOK_ALIKES, "▁", "\u030a", "Å", "ﬁ", "𝔸") if theirs.backend_tokenizer.normalizer else (*LOOK_ALIKES, "▁")
  number = 0
  for text in strings():
    if text[:1] != " " and not any(mark in text for mark in special):
      assert ours.decode(ours.encode(text)) == text
      number += 1
  assert number > STRINGS / 5


def test_sentencepiece_itself_cuts_alike(tmp_path):
  """The rules above change nothing in plain text: the library that made the model says the same."""
  inner = sentencepiece.SentencePieceProcessor(model_proto=llama_model())
  ours = tokenizer.load(write(tmp_path / "m", "llama", LLAMA, model=llama_model()))
  plain = [text for text in strings() if text[:1] not in (" ", "▁") and not any(mark in text for mark in LOOK_ALIKES)]
  assert len(plain) > STRINGS / 3
  for text in plain:
    assert ours.encode(text) == inner.encode(text), text


def test_a_bare_model_is_taken_as_sentencepiece_takes_it(tmp_path):
  """No tokenizer_config.json says otherwise: special tokens in text are text."""
  inner = sentencepiece.SentencePieceProcessor(model_proto=llama_model())
  ours = tokenizer.load(write(tmp_path / "m", "llama", model=llama_model()))
  for text in strings()[:1000]:
    assert ours.encode(text) == inner.encode(text), text


def test_every_end_token_of_the_folder_ends_a_response(tmp_path):
  """eos of the tokenizer, and the ids of generation_config.json and config.json: one, a list, or none."""
  FOLDERS["mistral, model, ChatML"](tmp_path)
  assert tokenizer.load(tmp_path).end_ids == (700,)  # in added_tokens.json alone
  for generation, model, wanted in (
    ([2, 5], [2, 701], (700, 2, 5, 701)),
    (5, 2, (700, 5, 2)),
    (None, [700], (700,)),
    ([], None, (700,)),
  ):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mistral", "eos_token_id": model}))
    words = tokenizer.load(tmp_path)
    assert words.end_ids == wanted
    words.save(tmp_path / "again")
    assert tokenizer.load(tmp_path / "again").end_ids == wanted
    (tmp_path / "again/config.json").unlink()
