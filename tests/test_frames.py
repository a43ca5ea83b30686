"""What is trained of a conversation, and the chat template and end tokens that an export says it with."""

import itertools
import json
import random

import pytest

from skymath_jax import chat, prompts, tokenizer
from skymath_jax.chat import frames
from skymath_jax.errors import UserError
from tests.support.doubles import Rows, tokenize
from tests.support.tokenizer_families import FOLDERS, LOOK_ALIKES, strings

TEMPLATES = {
  "marked": "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
  "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}"
  "{% else %}{{ message.content }}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  "plain": "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
  "{{ message.content ~ eos_token ~ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  "trimmed": "{{ bos_token }}{% for message in messages %}{{ '[' ~ message.role ~ '] ' ~ message.content | trim }}"
  "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}",
  "thoughts are put before the last answer": "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
  "{% if message.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
  "{{ message.content.split('</think>')[-1].lstrip('\n') ~ eos_token ~ '\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  "a prompt opens the thought": "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
  "{{ message.content ~ eos_token ~ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}",
  "the system's words go to the last question": "{% set ns = namespace(system='') %}{% for message in messages %}"
  "{% if message.role == 'system' %}{% set ns.system = message.content ~ '\n' %}"
  "{% elif message.role == 'user' %}{% set last = messages | selectattr('role', 'equalto', 'user') | list | last %}"
  "{{ '[INST] ' ~ (ns.system if message == last else '') ~ message.content ~ ' [/INST] ' }}"
  "{% else %}{{ message.content ~ eos_token }}{% endif %}{% endfor %}",
}
SYSTEM = {"role": "system", "content": "Be kind."}
ASK, SAY = {"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "It is 5. 😀"}
AGAIN, MORE = {"role": "user", "content": "And\n<b>?"}, {"role": "assistant", "content": "<t> six"}
CONVERSATIONS = ([ASK, SAY], [SYSTEM, ASK, SAY], [ASK, SAY, AGAIN, MORE], [SYSTEM, ASK, SAY, AGAIN, MORE, ASK, SAY])
FAMILIES = [
  "llama, model",
  "llama, json, legacy",
  "qwen",
  "smollm",
  "gemma",
  "mistral, model, ChatML",
  "phi-3",
  "deepseek",
]


def frame_of(folder, template, name="chat"):
  (folder / "chat_template.jinja").write_text(template)
  words = tokenizer.load(folder)
  return words, frames.load(name, words)


def runs(example):
  """The trained stretches, as token ids."""
  pairs = itertools.groupby(zip(example.tokens, example.trained, strict=True), key=lambda pair: pair[1])
  return [[token for token, _ in group] for trained, group in pairs if trained]


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_answers_are_trained_each_with_its_end_token(family, kind, tmp_path):
  """Told by brute force: each stretch's text is an answer, its last token the end; nothing else is trained."""
  FOLDERS[family](tmp_path)
  words, frame = frame_of(tmp_path, TEMPLATES[kind])
  for messages in CONVERSATIONS:
    example = frame.example({"messages": messages}, "row 0")
    whole = chat.encode_messages(words, chat.template_of(words), messages, answer_follows=False)
    assert example.tokens == whole
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    found = runs(example)
    assert len(found) == len(answers)
    for at, (ids, answer) in enumerate(zip(found, answers, strict=True)):
      assert ids[-1] == words.eos_id and words.eos_id not in ids[:-1]
      inserted = "<think>\n\n</think>\n\n" if "put before" in kind and at + 1 == len(answers) else ""
      assert words.decode(ids).strip() == (inserted + answer).strip(), (messages, words.decode(ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mask_is_that_of_transformers_where_a_template_marks_the_answers(family, tmp_path):
  transformers = pytest.importorskip("transformers")
  FOLDERS[family](tmp_path)
  _, frame = frame_of(tmp_path, TEMPLATES["marked"])
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  for messages in CONVERSATIONS:
    wanted = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
    example = frame.example({"messages": messages}, "row 0")
    assert (example.tokens, list(map(int, example.trained))) == (wanted["input_ids"], wanted["assistant_masks"])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_of_many_conversations_are_those_of_transformers(family, tmp_path, capsys):
  """Turns of any of the strings that tokenizers are compared on, but for those that spell special tokens."""
  transformers = pytest.importorskip("transformers")
  FOLDERS[family](tmp_path)
  _, frame = frame_of(tmp_path, TEMPLATES["marked"])
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  texts = [text for text in strings() if text.strip() and not any(mark in text for mark in LOOK_ALIKES)]
  draw, found = random.Random(0), []
  for number in range(500):
    turns = [SYSTEM] * draw.randrange(2)
    for _ in range(draw.randint(1, 4)):
      asked, said = draw.sample(texts, 2)
      turns = [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    wanted = theirs.apply_chat_template(turns, return_assistant_tokens_mask=True, return_dict=True)
    example = frame.example({"messages": turns}, f"row {number}")
    if (example.tokens, list(map(int, example.trained))) != (wanted["input_ids"], wanted["assistant_masks"]):
      found.append(turns)
  with capsys.disabled():
    print(f"\n{family}: {number + 1} conversations, {len(found)} differences", end="")
  assert not found


@pytest.mark.parametrize("family", FAMILIES)
def test_marked_answers_and_found_ones_are_the_same(family, tmp_path):
  """Also where the marks leave out the end token."""
  FOLDERS[family](tmp_path)
  _, plain = frame_of(tmp_path, TEMPLATES["plain"])
  marked = TEMPLATES["marked"]
  short = marked.replace("{{ eos_token }}{% endgeneration %}", "{% endgeneration %}{{ eos_token }}")
  for template in (marked, short):
    _, frame = frame_of(tmp_path, template)
    for messages in CONVERSATIONS:
      assert frame.example({"messages": messages}, "") == plain.example({"messages": messages}, "")


def test_a_control_token_in_an_answer_is_text_and_ends_nothing(tmp_path):
  FOLDERS["smollm"](tmp_path)
  for kind in ("plain", "marked"):
    words, frame = frame_of(tmp_path, TEMPLATES[kind])
    said = "a <|endoftext|> b <|im_start|> c"
    example = frame.example({"query": "q <|endoftext|>", "response": said}, "row 0")
    (ids,) = runs(example)
    assert words.decode(ids) == said and ids.count(words.eos_id) == 1
    assert example.tokens.count(words.eos_id) == 2


def test_pairs_are_one_user_message_in_a_frame_or_bare(tmp_path):
  FOLDERS["smollm"](tmp_path)
  words, bare = frame_of(tmp_path, TEMPLATES["plain"])
  row = {"query": "2 + 3?", "response": "5"}
  messages = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}]
  assert bare.example(row, "") == bare.example({"messages": messages}, "")
  framed = frames.load("chat:sft/alpaca", words).example(row, "")
  assert "### Instruction:\n2 + 3?" in words.decode(framed.tokens) and runs(framed) == runs(bare.example(row, ""))
  path = tmp_path / "mine.jinja"
  path.write_text(TEMPLATES["plain"])
  assert frames.load(str(path), words).example(row, "") == bare.example(row, "")


def test_frames_of_ours_train_the_ids_they_always_did(tmp_path):
  FOLDERS["llama, model, bos and eos"](tmp_path)
  words = tokenizer.load(tmp_path)
  frame = frames.load("sft/alpaca", words)
  assert frame.hash == prompts.load("sft/alpaca").hash
  prompt = [1, *words.encode(prompts.load("sft/alpaca").render(query="2 + 3?"))]
  messages = [SYSTEM, {"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "5"}]
  example = frame.example({"query": "2 + 3?", "response": "5"}, "")
  assert example.tokens == [*prompt, *words.encode("5"), 2]
  assert runs(example) == [[*words.encode("5"), 2]] and not any(example.trained[: len(prompt)])
  told = frame.example({"messages": messages}, "")
  assert told == frame.example({"query": "Be kind.\n\n2 + 3?", "response": "5"}, "")


def test_rows_and_templates_that_teach_nothing_or_the_wrong_thing_are_refused(tmp_path):
  FOLDERS["smollm"](tmp_path)
  words = tokenizer.load(tmp_path)
  with pytest.raises(UserError, match=r"several answers.*training\.template=chat"):
    frames.load("sft/alpaca", words).example({"messages": CONVERSATIONS[2]}, "row 7")
  with pytest.raises(UserError, match="no chat template"):
    frames.load("chat", words)
  with pytest.raises(UserError, match="no such file"):
    frames.load(str(tmp_path / "no.jinja"), words)
  with pytest.raises(UserError, match=r"no end token after an answer.*eos_token"):
    frame_of(tmp_path, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
  once = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ eos_token }}"
  _, frame = frame_of(tmp_path, once)
  assert frame.example({"messages": [ASK, SAY]}, "")
  with pytest.raises(UserError, match="row 3: the chat template writes no end token after an answer"):
    frame.example({"messages": CONVERSATIONS[2]}, "row 3")
  _, frame = frame_of(tmp_path, "{% if messages | length > 2 %}{{ raise_exception('two turns') }}{% endif %}" + once)
  with pytest.raises(UserError, match=r"row 4: .*two turns"):
    frame.example({"messages": CONVERSATIONS[2]}, "row 4")
  assert frame.example({"query": "a", "response": ""}, "") is None
  assert frame.example({"messages": [ASK]}, "") is None


def test_examples_of_several_answers_carry_weight_on_each(tmp_path):
  FOLDERS["smollm"](tmp_path)
  words, frame = frame_of(tmp_path, TEMPLATES["plain"])
  source = [{"messages": messages} for messages in CONVERSATIONS]
  found = tokenize(source_of(source), words, template="chat", max_length=400, loss_weighting="example")
  assert len(found) == 4 and found.untrained == 0
  for at, row in enumerate(source):
    place = found.place(at)
    example = frame.example(row, "")
    assert (found.tokens[place].tolist(), found.trained[place].tolist()) == (example.tokens, example.trained)
    assert found.token_weights[at] == pytest.approx(1 / sum(example.trained))


def source_of(rows):
  class Source(list):
    fingerprint = "rows"

  return Source(rows)


@pytest.mark.parametrize("family", FOLDERS)
@pytest.mark.parametrize("name", ["sft/alpaca", "raw"])
def test_an_export_says_the_frame_of_training_as_chat_template(family, name, tmp_path):
  """Its prompt has the ids of training, by us and by transformers; the base model's template does not travel."""
  transformers = pytest.importorskip("transformers")
  FOLDERS[family](tmp_path)
  (tmp_path / "chat_template.jinja").write_text(TEMPLATES["plain"])
  words = tokenizer.load(tmp_path)
  frames.dressed(words, name).save(tmp_path / "out")
  again = tokenizer.load(tmp_path / "out")
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
  for query in ("What is 2 + 3?", "a\n\n b 日本 'x' \\frac", "{{ 1 }}"):
    example = frames.load(name, words).example({"query": query, "response": "5"}, "")
    prompt = example.tokens[: example.trained.index(True)]
    messages = [{"role": "user", "content": query}]
    assert chat.encoder(again, "raw")(messages) == prompt
    assert theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) == prompt
    whole = theirs.apply_chat_template([*messages, {"role": "assistant", "content": "5"}], return_dict=False)
    assert whole[: len(prompt)] == prompt and whole[-1] == example.tokens[-1] == words.eos_id


def test_an_export_in_the_models_own_template_keeps_it_byte_for_byte_and_names_all_end_tokens(tmp_path):
  FOLDERS["qwen 3, thoughts"](tmp_path)
  named = {"eos_token_id": [800], "temperature": 0.6}
  (tmp_path / "generation_config.json").write_text(json.dumps(named))
  text = TEMPLATES["plain"].replace("~ eos_token ~", "~ '<|im_end|>' ~")
  words, frame = frame_of(tmp_path, text)
  ends = [words.token_id("<|im_end|>"), 800]
  assert list(frame.end_ids) == ends
  frames.dressed(words, "chat").save(tmp_path / "out")
  assert (tmp_path / "out/chat_template.jinja").read_text() == text
  again = tokenizer.load(tmp_path / "out")
  assert {*again.end_ids} == {*ends}
  assert json.loads((tmp_path / "out/generation_config.json").read_text())["temperature"] == 0.6
  # a base model whose eos is another: the token that the template ends turns with is taught, so it is named
  FOLDERS["qwen"](tmp_path / "base")
  words, frame = frame_of(tmp_path / "base", TEMPLATES["plain"].replace("~ eos_token ~", "~ '<|im_start|>' ~"))
  frames.dressed(words, "chat").save(tmp_path / "other")
  told = json.loads((tmp_path / "other/generation_config.json").read_text())
  assert told["eos_token_id"] == [words.token_id("<|im_start|>"), words.eos_id]


def test_a_template_in_the_tokenizers_config_does_not_outlive_the_frame(tmp_path):
  FOLDERS["smollm"](tmp_path)
  path = tmp_path / "tokenizer_config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATES["plain"]}))
  frames.dressed(tokenizer.load(tmp_path), "sft/alpaca").save(tmp_path / "out")
  assert "chat_template" not in json.loads((tmp_path / "out/tokenizer_config.json").read_text())
  assert "### Instruction" in (tmp_path / "out/chat_template.jinja").read_text()


def test_a_row_of_a_frame_needs_its_keys():
  from tests.support.doubles import Characters

  with pytest.raises(UserError, match="row 1: the row has no key 'response'"):
    tokenize(source_of([{"query": "a", "response": "b"}, {"query": "a"}]), Characters(), template="raw", max_length=9)
  assert len(tokenize(Rows((("a", "b"),)), Characters(), template="raw", max_length=9)) == 1
