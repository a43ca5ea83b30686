"""Words that say that the answer follows, in the languages of the benchmarks, and where what they announce ends."""

import re

_NOTE = r"(?:\s*\([^()\n]{1,60}\))?"  # `the answer (in grams) is`
_ENGLISH = (
  r"(?:final|correct|right|best) (?:option|choice)\**\s*(?:is|:)|"
  r"(?:choice|option|selection|select|selected)\**\s*[:：](?=[\s*(\[]*[A-J](?![A-Za-z]))|"
  r"answer\s+(?=\(?[A-Ja-j]\)?\W*$)|"
  rf"answers?\**{_NOTE}\s*(?:(?:to|for|of)\b[^.\n]{{0,80}}?\s)?"
  r"(?:\s[-–—]\s|is(?!n['’]t)|are(?!n['’]t)|(?:would|will|should|must|has to) be|equals|[:：=])"
  r"(?:\s+(?:therefore|thus|then|hence|simply|just|indeed|clearly|exactly|definitely|actually|still|now"
  r"|approximately|about|given by)\b)*"
)
_CHINESE = (
  r"[【\[［〖「]\s*(?:最终|最終|正确|正確|参考|标准)?答案\s*[】\]］〗」]|正[确確](?:的)?[选選][项項]\s*(?:[应應]该?)?[是为為选選:：]"
  r"|(?:答案|最[终終后後][结結]果)\**(?:\s*(?:应该|应当|應該|应|應|就|也|即|便))?\s*(?:[是为為选選]|等[于於]|[:：]\}?|\s(?=[A-H](?![A-Za-z])))"
  r"(?:\s*[选選][项項])?"
  r"|(?<![一-鿿])(?:答|解答|结论|結論)\s*[:：]|(?:[觉覺]得|[认認][为為])(?:答案)?(?:[应應]该?)?[是选選](?=[\s（(]*[A-H])"
  r"|(?<![一-鿿A-Za-z])[选選][项項]\s*[是为為]|(?:故|(?<!不)[应應]该?|所以|因此|因而|本题|本題)[选選](?:[择擇]|[项項])?(?=[\s:：（(A-H])"
)
_OTHERS = (
  r"(?:la\s+)?réponse(?:\s+(?:finale|correcte|exacte))?\s*(?:est|:)(?:,?\s+(?:donc|alors|ainsi|bien),?)?",
  r"respuesta(?:\s+(?:final|correcta))?\s*(?:es|:)(?:,?\s+(?:entonces|pues|por (?:lo )?tanto|igual a),?)?",
  r"resposta(?:\s+(?:final|correta))?\s*(?:é|:)(?:,?\s+(?:portanto|então|assim),?)?",
  r"risposta(?:\s+(?:finale|corretta))?\s*(?:è|é|:)(?:,?\s+(?:quindi|dunque|allora|perciò),?)?",
  r"antwort\s*(?:ist|lautet|beträgt|:)(?:\s+(?:also|somit|daher|folglich|dann|damit))?",
  r"antwoord\s*(?:is|:)(?:\s+dus)?|odpowied[źz]\s*(?:to|:)|vastaus\s*(?:on|:)|cevap\s*:?|jawaban(?:nya)?\s*(?:adalah|:)",
  r"(?:ответ|відповідь)\**\s*(?:[:—–-]|равен|равна|есть|это|будет)",
  r"(?:答え|解答|正解)\**\s*(?:は|[:：])|(?:정답|답)\s*(?:은|[:：])|đáp\s+(?:án|số)\s*(?:là|:)",
  r"คำตอบ\s*(?:คือ|:)|jibu\s*(?:ni|:)|উত্তর\s*(?:হল|হলো|[:：])|సమాధానం\s*(?:[:：]|=)?|उत्तर\s*(?:है|[:：])",
  r"chọn(?:\s+(?:đáp án|phương án))?\s*:?(?=\s*[A-J]\b)",
  r"απάντηση\s*(?:είναι|:)",
  r"(?:الجواب|الإجابة|جواب|پاسخ)\s*(?:هو|هي|[:：])|תשובה\s*(?:היא|הוא|:)",
)
PHRASE = re.compile(rf"(?:{_ENGLISH}|{_CHINESE}|{'|'.join(_OTHERS)})\**[ \t]*[:：]?\**[ \t]*", re.IGNORECASE)
FINAL = re.compile(r"final\s+answer\**\s*(?:is|:)", re.IGNORECASE)
HEADING = re.compile(
  r"^[\s#*_>]*(?:the\s+)?(?:final\s+answers?|answers?|最终答案|答案)[\s*_:：]*\n\s*(?:[-•]\s+|1[.)]\s+(?=[a-zA-Z$\\]))?(?=\S)",
  re.IGNORECASE | re.MULTILINE,
)
CELL = re.compile(r"\|[\s*]*(?:final\s+)?answer[\s*]*\|\s*([^|\n]+?)\s*\|", re.IGNORECASE)
LINE = re.compile(r"^[ \t>*]*(?:A|Ans|Answer)\**[ \t]*[:：]\**[ \t]*(\S[^\n]*)$", re.MULTILINE)
HASHES = re.compile(r"####[ \t]*:?[ \t]*((?:(?!##)[^\n])*)")

_END = re.compile(
  r"(?<!\bMrs)(?<!\bM[rs])(?<!\bDr)(?!(?<=\b[ap]\.m)\.\s[a-z])\.(?=\s|$|#|<|[A-Z][a-z]+\s)|[。！]|．(?!\d)|!(?=\s+[A-Z][a-z]|\s*$(?<=[a-z]!))|#{2,}|【|<eo[ae]>|[।]"
)
_REASON = re.compile(
  r",?\s+(?:because|since|so that|due to|given that|assuming|as (?:it|the|we|this|they|there|shown|(?=[\d$\\])))"
  r"(?=[\s\d$\\])"
  r"|,\s+(?:as|which|so|meaning|namely|i\.?e\.?|e\.?g\.?|with|that is|thus|hence|or else|but|if|when|while)\b"
  r"|,?\s+(?:and|but)\s+not\s|\s+but\s+(?:maybe|perhaps|possibly|it)\b|,\s+not\s|,?\s+(?:rather than|instead of)\s"
  r"|,?\s+and\s+(?:we|this|that|it|so|is|he|she|they)\b"
  r"|\s+[—–]\s+|;\s+(?=[a-z]{2,} )"
  r"|\s+\((?:because|since|that is|i\.?e\.?|or|as|which|where|not|rounded|approx|about|since)\b"
  r"|[，,]\s*(?:不[应應是选選]|因为|因此|所以|由于|故|即|其中|也就是)"
)
_BULLET = re.compile(r"^[\s*_:：]*\n\s*(?:[-*•]\s+|1[.)]\s+(?=[a-zA-Z$\\]))")  # of a list below a heading
_CONDITION = re.compile(r",?\s+(?:if|when|where|provided)\s")
_VALUE = re.compile(r"^[\s$\\(]*[-+−]?[\d.,/]+%?(?:\\\)|[$)\s])*(?:[a-zA-Z]{1,12})?\W*$|^\W*[A-J]\W*$")


def first_sentence(text: str, limit: int) -> str:
  """The first line that says something, up to a full stop that ends a sentence, or where a loop begins again."""
  text = _BULLET.sub("", text)
  line = text.lstrip(" \t\r\n*_:：").partition("\n")[0]
  if line.strip() in {r"\[", "$$", r"\(", "$"}:
    line = text.lstrip(" \t\r\n*:：")[:limit].replace("\n", " ")
  for match in _END.finditer(line):
    if line[: match.start()].strip():
      return line[: match.start()]
  return line


def without_reason(answer: str) -> str:
  """`answer` without the reason, condition or explanation that follows it."""
  head = _REASON.split(answer, maxsplit=1)[0]
  parts = _CONDITION.split(head)
  if len(parts) == 2 and "otherwise" not in parts[1] and _VALUE.match(parts[0]):
    return parts[0]
  return head
