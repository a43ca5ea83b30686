r"""What of a model's text is for the reader: the thought set apart, the marks of a turn's end cut off.

>>> visible("<think>\n5 + 3 = 8\n</think>\n\nShe has 8.</s>")
Visible(text='She has 8.', thought='5 + 3 = 8', whole=True)

A server with a reasoning parser takes the thought out by itself; others leave it in the text, in the marks of the
model's family (DeepSeek, Qwen and GLM `<think>`, Magistral `[THINK]`, Kimi `◁think▷`, Seed `<seed:think>`, Sky-T1
`<|begin_of_thought|>`, Command A `<|START_THINKING|>`, gpt-oss channels). Where the prompt's template opens the
thought, the text has the closing mark only. A thought that is not closed was cut off.
"""

import re
from typing import NamedTuple

_NAMES = (  # `antThinking`, `seed:think`, `deep_think`, `reasoning_content`, `inner_monologue`, …
  r"(?!no_?think)(?:[a-z]+[_:-]?)??(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|monologue)"
  r"(?:_[a-z]+)?|cot"
)
_BRACKETED = r"(?:think(?:ing)?|thought|reasoning)\]"
_MARK = re.compile(
  rf"(?P<opening>(?:[<＜]|&lt;) ?(?:{_NAMES})(?:\s[^<>\n]{{0,80}})?(?<!/)(?:[>＞]|&gt;)|\[{_BRACKETED}|◁think▷"
  r"|<\|(?:begin|start)_of_thought\|>|<\|START_THINKING\|>|<\|(?:think|thinking)\|>|<unused94>(?:thought)?"
  r"|<\|channel>thought)"
  rf"|(?:[<＜]|&lt;)/ ?(?:{_NAMES})\s?(?:[>＞]|&gt;)|\[/{_BRACKETED}|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
  r"|<\|/(?:think|thinking)\|>|<unused95>|<channel\|>|<\|end\|><\|begin\|>assistant<\|content\|>",
  re.IGNORECASE,
)
_BEFORE = re.compile(  # marks that mean nothing further on: Open WebUI's, Markdown's, Granite's words
  r"\A\s*(?:<details type=\"reasoning\"[^<>\n]{0,80}>(?P<page>.*?)</details>"
  r"|```think(?:ing)?\n(?P<fence>.*?)\n```(?=\n)"
  r"|Here is my thought process:(?P<words>.*?)Here is my response:)",
  re.DOTALL | re.IGNORECASE,
)
# gpt-oss: "<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…", or the same text
# without its control tokens
_CHANNEL = re.compile(
  r"<\|channel\|>\s*(?P<name>\w+)(?:(?!<\|message\|>).){0,99}<\|message\|>"
  r"(?P<text>.*?)(?=<\|(?:end|return|call|start)\|>|\Z)",
  re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"\Aanalysis(?P<thought>.*?)assistantfinal(?P<text>.*)\Z", re.DOTALL)
_END = re.compile(
  r"</s>|<eos>|<end_of_turn>|\[EOS\]|<｜end▁of▁sentence｜>|<pad>|\[PAD\]"
  r"|<\|(?:im_end|endoftext|end_of_text|eot_id|eom_id|eot|end|return|eos|eoa|end_of_turn|end_of_sentence"
  r"|END_OF_TURN_TOKEN|END_RESPONSE|end_of_solution|endofresponse|end_of_box)\|>"
  r"|\[\|endofturn\|\]|<end_of_utterance>|<turn\|>|<EOT>|</assistant>|\[e~\[|\[SEP\]|<s>\s*\Z",
  re.IGNORECASE,
)
_BEGINNING = re.compile(
  r"\A\s*(?:(?:\ufeff|<think ?/>|<no_?think>|<s>|<bos>|<pad>"
  r"|<\|(?:begin_of_text|startoftext|START_RESPONSE|begin_of_solution|begin_of_box)\|>"
  r"|<｜begin▁of▁sentence｜>|<\|im_start\|>(?:assistant)?|<\|assistant\|>|<｜Assistant｜>|<start_of_turn>(?:model)?"
  r"|<\|start_header_id\|>assistant<\|end_header_id\|>)\s*)+",
  re.IGNORECASE,
)
_ANSWER = re.compile(r"\A<(answer|response|solution|output|final_answer)>(.*?)(?:</\1>)?\Z", re.DOTALL | re.IGNORECASE)
_CONTROL_TOKEN = re.compile(
  r"<\|[a-z_]{3,}\|>|<｜[^｜<>\n]{3,40}｜>|<(?:start|end)_of_turn>|\[/?INST\]|<unk>|<0x[0-9A-F]{2}>", re.IGNORECASE
)
# C0 and C1 but tab and line feed, lone surrogates, what stands for broken bytes, marks that reorder text, hidden ones
_CONTROL_CHARACTER = re.compile(
  "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffd\u202a-\u202e\u2066-\u2069\ufffe\uffff\U000e0000-\U000e007f]"
)


class Visible(NamedTuple):
  """What a reader is to see, what the model thought before, and whether no thought was left open."""

  text: str
  thought: str
  whole: bool


def visible(text: str) -> Visible:
  """The parts of a model's text; without any marks in it, the very text. Given its own result, it changes nothing."""
  said = text
  text, thoughts = _channels(text)
  if before := _BEFORE.match(text):
    thoughts.append(before[str(before.lastgroup)])
    text = text[before.end() :]
  parts: list[str] = []
  start, opened = 0, False
  for mark in _MARK.finditer(text):
    if mark["opening"]:
      if opened:
        continue
      parts.append(text[start : mark.start()])
    elif opened:
      thoughts.append(text[start : mark.start()])
    else:  # the prompt's template had opened it
      thoughts.append("".join([*parts, text[start : mark.start()]]))
      parts.clear()
    opened = bool(mark["opening"])
    start = mark.end()
  (thoughts if opened else parts).append(text[start:])
  shown = _BEGINNING.sub("", "".join(parts))
  if end := _END.search(shown):
    shown = shown[: end.start()]
  if answer := _ANSWER.match(shown.strip()):
    shown = answer[2]
  if shown == said:
    return Visible(said, "", True)
  shown = shown.strip("\x00 \t\r\n\v\f\u200b\ufeff")
  return Visible(shown, "\n\n".join(filter(None, (thought.strip() for thought in thoughts))), not opened)


def _channels(text: str) -> tuple[str, list[str]]:
  """(the final channel, the other ones) of gpt-oss; the text itself, if it has no channels."""
  if bare := _BARE_CHANNELS.match(text):
    return bare["text"], [bare["thought"]]
  if not (found := list(_CHANNEL.finditer(text))):
    return text, []
  thoughts = [part["text"] for part in found if part["name"] != "final"]
  return "".join(part["text"] for part in found if part["name"] == "final"), thoughts


def flaw(text: str) -> str | None:
  """Why a visible text may not become data: `control_characters` or `control_tokens` in it; None if it may."""
  if _CONTROL_CHARACTER.search(text):
    return "control_characters"
  return "control_tokens" if _CONTROL_TOKEN.search(text) else None
