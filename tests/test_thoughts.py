"""Thoughts in training: as the chat template wants them, or left out; and what is exported says what was trained."""

import pytest

from skymath_jax import chat, records, sft, tokenizer
from skymath_jax.chat import frames, thoughts
from skymath_jax.errors import UserError
from skymath_jax.records import Instance
from skymath_jax.sft import pairs
from tests.support.tokenizer_families import FOLDERS

TURNS = "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' }}"
BY_NAME = (
  TURNS + "{% if m.reasoning_content %}{{ '<think>\n' ~ m.reasoning_content ~ '\n</think>\n\n' }}{% endif %}"
  "{{ m.content ~ eos_token ~ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OWN_MARKS = BY_NAME.replace("<think>\n", "[THINK]").replace("\n</think>\n\n", "[/THINK]")
IN_TEXT = (
  TURNS + "{{ m.content ~ eos_token ~ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OPENED = IN_TEXT.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
CUT = IN_TEXT.replace("m.content ~", "m.content.split('</think>')[-1] ~")
THOUGHT, SAID = "Two and three\nare 5. é", "It is 5.\nThe answer is 5"
ROW = {"query": "What is 2 + 3?", "response": SAID, "thought": THOUGHT}
AROUND = {
  "by name": (BY_NAME, "<think>\n", "\n</think>\n\n"),
  "own marks": (OWN_MARKS, "[THINK]", "[/THINK]"),
  "in the text": (IN_TEXT, "<think>\n", "\n</think>\n\n"),
  "opened by the prompt": (OPENED, "", "\n</think>\n\n"),
}


def trained(example, words):
  return words.decode([t for t, of in zip(example.tokens, example.trained, strict=True) if of])


def spoken(kind):
  """The message of ROW's answer, as transformers is given it."""
  if kind in ("by name", "own marks", "frame"):
    return {"role": "assistant", "content": SAID, "reasoning_content": THOUGHT}
  return {"role": "assistant", "content": thoughts.aloud(THOUGHT, SAID)}


@pytest.mark.parametrize("kind", AROUND)
@pytest.mark.parametrize("family", ["qwen", "smollm", "llama, json, legacy"])
def test_a_thought_is_trained_as_the_template_wants_it_and_exported_so(family, kind, tmp_path):
  transformers = pytest.importorskip("transformers")
  FOLDERS[family](tmp_path)
  template, before, after = AROUND[kind]
  (tmp_path / "chat_template.jinja").write_text(template)
  words = tokenizer.load(tmp_path)
  with_, without = (frames.load(name, words).example(ROW, "") for name in ("chat+thoughts", "chat"))
  assert trained(with_, words).strip() == f"{before}{THOUGHT}{after}{SAID}"
  assert trained(without, words).strip() == SAID
  assert frames.load("chat+thoughts", words).example({k: ROW[k] for k in ("query", "response")}, "") == without
  messages = [{"role": "user", "content": ROW["query"]}, {**spoken("by name")}]
  assert frames.load("chat+thoughts", words).example({"messages": messages}, "") == with_
  assert frames.load("chat", words).example({"messages": messages}, "") == without
  frames.dressed(words, "chat+thoughts").save(tmp_path / "out")
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  assert theirs.apply_chat_template([messages[0], spoken(kind)], return_dict=False) == with_.tokens


@pytest.mark.parametrize("family", ["qwen", "smollm", "llama, model", "gemma"])
def test_a_frame_of_ours_is_exported_with_its_thoughts(family, tmp_path):
  transformers = pytest.importorskip("transformers")
  FOLDERS[family](tmp_path)
  words = tokenizer.load(tmp_path)
  with_ = frames.load("sft/alpaca+thoughts", words).example(ROW, "")
  without = frames.load("sft/alpaca", words).example(ROW, "")
  start = with_.trained.index(True)
  assert with_.tokens[:start] == without.tokens[:start]
  assert trained(with_, words).removesuffix(words.token(words.eos_id)).strip() == thoughts.aloud(THOUGHT, SAID)
  frames.dressed(words, "sft/alpaca+thoughts").save(tmp_path / "out")
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  asked = [{"role": "user", "content": ROW["query"]}]
  whole = theirs.apply_chat_template([*asked, spoken("frame")], tokenize=False)
  assert thoughts.aloud(THOUGHT, SAID) in whole
  again = frames.load("chat", tokenizer.load(tmp_path / "out")).example(ROW, "")
  assert trained(again, words).strip() == trained(without, words).strip()
  assert chat.encoder(tokenizer.load(tmp_path / "out"), "raw")(asked) == with_.tokens[:start]


def test_a_template_that_cuts_thoughts_away_is_refused(tmp_path):
  FOLDERS["smollm"](tmp_path)
  (tmp_path / "chat_template.jinja").write_text(CUT)
  words = tokenizer.load(tmp_path)
  with pytest.raises(UserError, match=r"leaves thoughts out.*sft/alpaca\+thoughts"):
    frames.load("chat+thoughts", words)
  assert trained(frames.load("chat", words).example(ROW, ""), words).strip() == SAID


def test_thoughts_pass_through_data_sets(tmp_path):
  made = [
    Instance(id=f"{n}", query=f"q{n}", response="r\nThe answer is 5", answer="5", method="m", parents=("p",), stage=1,
             thought=thought)
    for n, thought in enumerate(["Hm. é", None, "Ha"])
  ]  # fmt: skip
  sft.write(tmp_path / "set", made, name="n", card="c")
  data = sft.open(tmp_path / "set")
  assert [row.get("thought") for row in data] == ["Hm. é", None, "Ha"]
  assert data.compute_fingerprint() == data.fingerprint
  records.write_lines(tmp_path / "kept.jsonl", made)
  for name in ("set", "kept.jsonl"):
    assert [row.get("thought") for row in pairs.open(str(tmp_path / name))] == ["Hm. é", None, "Ha"]
