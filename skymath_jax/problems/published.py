r"""Test sets as their authors published them: files, licence, and how a row becomes a question with its right answer.

An address points at a fixed commit where there is one, and the bytes are checked: by SHA-256, or by git's own id of the
content where the file was not at hand when this table was written. Sets that only a hub holds as Parquet have no
checksum here: nobody could look at their bytes; the number of problems is compared instead. Every file may be put by
hand at `<seeds.data_dir>/NAME/FILE`.

Right answers are taken as published. `doubtful` lists those known to be wrong or more exact than a solver can guess,
with the reason; they count as published all the same, so that figures compare.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from etils import epath

from skymath_jax import console, grading
from skymath_jax.errors import UserError
from skymath_jax.problems.builder import RemoteFile, fetched, read_bytes, rows_of, with_ids, without_dollars
from skymath_jax.records import Problem

Row = dict[str, Any]
_RAW = "https://raw.githubusercontent.com/"
_HUB = "https://huggingface.co/datasets/"
_QWEN = _RAW + "QwenLM/Qwen2.5-Math/a45202bd16f1ec06f433442dc1152d0074773465/evaluation/data/"
_TORA = _RAW + "microsoft/ToRA/213c1c995038c73fab10343814df7a42f990f026/src/data/"
_APPLE = _RAW + "apple/ml-gsm-symbolic/b6a1625025fc857300203bac9f617e5d8ec99f65/generated_data/"
_MGSM = _RAW + "google-research/url-nlp/452a21ad3dae5668c06ceeac21ff073e1e40f9be/mgsm/"
_PLUS = _RAW + "qtli/GSM-Plus/3474129ec12fcd3e8ac08cb037aca1928efca98c/dataset/"
_AIME = _RAW + "GAIR-NLP/AIME-Preview/7011a9eae7c4b78071f27b6f77f618d65608cfb0/eval/data/aime/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """One test set.

  Attributes:
    files: split → its files; the first split is the default.
    rows: split → how many problems it has.
    fields: from a row to `question`, `answer` and more fields of a Problem; None leaves the row out.
    answers: what a right answer is, in words.
    license: as the authors state it.
    citation: where it comes from.
    language: of the questions; that of a split, where splits are languages.
    doubtful: what is known to be wrong or unfair, and why: id of the row as published, or a rule → reason.
  """

  files: Mapping[str, tuple[RemoteFile, ...]]
  rows: Mapping[str, int]
  fields: Callable[[Row], Row | None]
  answers: str
  license: str
  citation: str
  language: str = "en"
  doubtful: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def default(self) -> str:
    return next(iter(self.files))

  @property
  def verified(self) -> bool:
    """Whether the bytes of every file are checked, by SHA-256 or git's id; else only the number of problems is."""
    return all(file.sha256 or file.blob for files in self.files.values() for file in files)


def load(name: str, split: str, data_dir: epath.Path) -> list[Problem]:
  """The problems of one split.

  Raises:
    UserError: a file cannot be had, or is not what it must be.
  """
  found = SETS[name]
  problems = list(_problems(name, split, [fetched(file, data_dir / name) for file in found.files[split]]))
  if not found.verified:
    console.log(f"note: {name} has no checksum, only the number of its problems is checked")
  if len(problems) != found.rows[split]:
    console.log(f"warning: {name}:{split} has {len(problems):,} problems here, {found.rows[split]:,} as published")
  return problems


def _problems(name: str, split: str, paths: list[epath.Path]) -> Iterator[Problem]:
  found = SETS[name]
  language = split if found.language == "split" else found.language
  rows: list[Row] = []
  for path in paths:
    for number, row in enumerate(_rows(path), start=1):
      try:
        fields = found.fields(row)
      except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"this row is not of the published format ({type(error).__name__}: {error})"
        raise UserError(what, where=f"{path}:{number}", remedy="fetch the file again") from None
      if fields is not None:
        rows.append(fields)
  yield from with_ids(name, rows, license=found.license, language=language)


def _rows(path: epath.Path) -> list[Row]:
  if ".tsv" in path.suffixes:
    lines = read_bytes(path).decode().splitlines()
    return [dict(zip(("question", "answer"), line.split("\t"), strict=True)) for line in lines if line.strip()]
  return rows_of(path)


def plain_number(value: Any) -> str:
  """A number as people write it: `27.0` → `27`, `073` → `73`, `1,200` → `1200`.

  Raises:
    ValueError: it is none.
  """
  text = str(value).replace(",", "").strip()
  number = float(text)
  if not math.isfinite(number):
    raise ValueError(f"{value!r} is no number")
  if number == int(number) and not re.fullmatch(r"-?[1-9]\d*|0", text):
    return str(int(number))
  return text


def _plain(value: Any) -> str:
  """Without one pair of dollar signs around all of it, and without the zeros of a float."""
  return without_dollars(plain_number(value) if isinstance(value, int | float) else str(value))


def _columns(question: str, answer: str, read: Callable[[Any], str], **more: str) -> Callable[[Row], Row]:
  """Fields by the names of their columns; `more` are further fields."""

  def fields(row: Row) -> Row:
    texts = {field: str(row[column]) for field, column in more.items() if row.get(column)}
    return {"question": str(row[question]).strip(), "answer": read(row[answer]), **texts}

  return fields


def _after_marks(row: Row) -> Row:
  """GSM8K's own format: the answer stands behind `####` in the solution."""
  return {
    "question": row["question"].strip(),
    "solution": row["answer"],
    "answer": plain_number(row["answer"].rpartition("####")[2]),
  }


def _gsm_plus(row: Row) -> Row | None:
  if not re.search(r"\d", str(row["answer"])):  # of a question that lacks a condition: there is nothing to compute
    return None
  return {"question": row["question"].strip(), "answer": _plain(row["answer"]), "subject": row["perturbation_type"]}


def _svamp(row: Row) -> Row:
  body = row["Body"].strip()
  question = f"{body}{'' if body.endswith('.') else '.'} {row['Question'].strip()}"
  return {"question": question, "answer": plain_number(row["Answer"]), "subject": row["Type"]}


def _asdiv(row: Row) -> Row:
  answer = re.sub(r"\s*\([^()]*\)$", "", row["answer"].strip())  # `9 (apples)`
  question = f"{row['body'].strip()} {row['question'].strip()}"
  return {"question": question, "answer": answer, "subject": row["solution_type"]}


def _gaokao(row: Row) -> Row | None:
  answer = _plain(row["answer"])
  return {"question": row["question"].strip(), "answer": answer} if answer else None


def _tabmwp(row: Row) -> Row:
  title = f" “{row['table_title']}”" if row.get("table_title") else ""
  parts = [f"Table{title}:", row["table"].strip(), row["question"].strip()]
  parts += ["Choose one of: " + ", ".join(map(str, row["choices"]))] if row.get("choices") else []
  return {"question": "\n".join(parts), "answer": str(row["answer"]).strip(), "subject": row.get("ans_type")}


def _minerva(row: Row) -> Row:
  answer = grading.gold_answer(row["solution"])
  return {"question": row["problem"].strip(), "solution": row["solution"], "answer": answer, "subject": row["type"]}


def _file(base: str, name: str, sha256: str = "", size: int = 0, *, blob: str = "") -> RemoteFile:
  return RemoteFile(name.rpartition("/")[2], base + name, sha256, size, blob)


def _one(file: RemoteFile, rows: int) -> dict[str, Any]:
  return {"files": {"test": (file,)}, "rows": {"test": rows}}


def _collected(name: str) -> dict[str, Any]:
  base, sha256, size, rows = _COLLECTED[name]
  return _one(_file(base, f"{name}/test.jsonl", sha256, size), rows)


def _arena(name: str, rows: int, what: str) -> Published:
  """A competition as MathArena publishes it."""
  return Published(
    **_one(_file(f"{_HUB}MathArena/{name}/resolve/main/", "data/train-00000-of-00001.parquet"), rows),
    fields=_columns("problem", "answer", _plain),
    answers=what,
    license="CC BY-NC-SA 4.0",
    citation=f"Balunović et al. 2025, MathArena, huggingface.co/datasets/MathArena/{name}",
  )


_INTEGER = "a whole number from 0 to 999"
_NUMBER = "a number"
_EXPRESSION = "a number, an expression, a set or an interval"
_MGSM_FILES = {
  "bn": ("6b00bc7cc635547e866989284afa924d789b5affa2eb8de623c385dd943ad977", 156684),
  "de": ("4dfea30fede44b813e2e496f5f0534049e83c7cc8aed6e00600b30ec62053626", 69640),
  "en": ("50021d0f28cc957edcb44e7806425b1c7fbd648ddcb9e0a8ec689d10e57d40fa", 61299),
  "es": ("5bd27ebdf00140cec845c5298dc17715f5cd57d8edda6df1976db40bf3f0750a", 66896),
  "fr": ("36207c1c03fd7cd3ea491441eb755408199f94e4a647851df531bbaedc99d606", 69141),
  "ja": ("59a2b50debe77981fd784cb3b2bef1505e3abf2a37116dc9d7a366ab029b4637", 81043),
  "ru": ("6bd30fd2e80c5bac23f566fb4ae0e6a55a19578401fbf9a01fb21beb3645fef8", 110953),
  "sw": ("2bac828d77229e65d7c7197b1ad4a2cb5b1fe99b163f2cbdd66501de6a2115c4", 67456),
  "te": ("dd6b1452c244bb2e4ba254c01ea84137f80c1cefc57d69c23b0ed88b9c0f36b7", 176547),
  "th": ("f3932dc5ad8e9d0ea82b017adc1e1461dd647af861e7166d6741986602a0cfd6", 151921),
  "zh": ("b2fa63151022370a0de1f4211c8c284eae74b0f5a3b003b1d5982c0d4a73f661", 57838),
}
_COLLECTED = {  # folder with a test.jsonl → where it lies, SHA-256, bytes, problems
  "svamp": (_TORA, "d0826ff1264f3860e46fc4e71db9e31d2d188960db87090e22677f9493e67a0d", 280029, 1000),
  "asdiv": (_QWEN, "5759580385e706f961a30d4c07d6925b35c3f7c86d6c50bc413957169693dad2", 613636, 2215),
  "mawps": (_QWEN, "00ffe31161be8623a3d36741830edbba87a3aee0109f693810fe40b9d5d91b8b", 402636, 2065),
  "gsm-hard": (_TORA, "45db606263a4902580aba3974e8b7fb3f66012877889209af206b1c1b2f208f5", 1151550, 1319),
  "cmath": (_QWEN, "e2ceabf05d10b37f207eaebbe8db24dbfc961e1a4f07337d2fc4db42a7f44fdb", 119574, 600),
  "gaokao2023en": (_QWEN, "654d8f49bdb86f578c171dbc0dd8f4d9f1bf3d7a7438f60359fda7d643df4951", 139740, 383),
  "college_math": (_QWEN, "91131bc4a355b884fc63ef7c4f048c35adb030004a4cb07b1475698f120aa4a6", 1188309, 2818),
  "minerva_math": (_QWEN, "0e656b430d3a0a1dab6aa853f453ba3805e28e2cabe4fc72486a897cc09d8ba2", 247267, 272),
  "amc23": (_QWEN, "43707e1ca784602d8479de24ee8ce36609dbebc46dd152b0b12a46611aa898a4", 27631, 40),
  "aime24": (_QWEN, "af2b8bd2aa911b6333ad0df32f3ca05c7ae8ed10f1731f4372c8ae26990bf7ac", 156944, 30),
}
SETS: dict[str, Published] = {
  "svamp": Published(
    **_collected("svamp"),
    fields=_svamp,
    answers=_NUMBER,
    license="MIT",
    citation="Patel et al. 2021, Are NLP Models really able to Solve Simple Math Word Problems?, arXiv:2103.07191",
    doubtful={"chal-680": "the published equation gives 5, the published answer is 1"},
  ),
  "asdiv": Published(
    **_collected("asdiv"),
    fields=_asdiv,
    answers="a number, a ratio, a time, a name, yes or no; the unit in brackets behind it is left out",
    license="CC BY-NC 4.0",
    citation="Miao et al. 2020, A Diverse Corpus for Evaluating and Developing English Math Word Problem Solvers",
    doubtful={"means of several numbers (1889, 1892, …)": "rounded to one decimal, which the question does not say"},
  ),
  "mawps": Published(
    **_collected("mawps"),
    fields=_columns("input", "target", plain_number, subject="type"),
    answers=_NUMBER,
    license="MIT",
    citation="Koncel-Kedziorski et al. 2016, MAWPS; addsub, multiarith, singleeq and singleop as ToRA joined them",
    doubtful={"repeated questions": "2,065 rows hold 1,981 different questions"},
  ),
  "gsm_plus": Published(
    **_one(_file(_PLUS, "gsmplus_test.jsonl", blob="971fdd3c8ad17fa252d7faf9b830ec80ea31a800"), 9233),
    fields=_gsm_plus,
    answers="a number; questions of which a condition was taken away (critical thinking) are left out",
    license="CC BY-SA 4.0",
    citation="Li et al. 2024, GSM-Plus, arXiv:2402.19255",
    doubtful={"answers with decimals": "rounded as their authors saw fit (26 / 6 = 4.33)"},
  ),
  "gsm_hard": Published(
    **_collected("gsm-hard"),
    fields=_columns("input", "target", plain_number),
    answers="a number as the authors' program computed it, which may be negative or broken where the story forbids it",
    license="MIT",
    citation="Gao et al. 2023, PAL: Program-aided Language Models, arXiv:2211.10435",
    doubtful={"answers that no story has (row 1: -9867630)": "one number of the question was replaced, not the rest"},
  ),
  "gsm_symbolic": Published(
    files={
      "test": (_file(_APPLE, "GSM_symbolic.jsonl", blob="8644707d8edb3179cc53876357b4d0f847f5335f"),),
      "p1": (_file(_APPLE, "GSM_p1.jsonl", blob="97d3ee573a68f5ca1e761f32994b5e1315910678"),),
      "p2": (
        _file(_APPLE, "GSM_p2.jsonl", "f7d6701619f824f4fedd0a914b1cfbc0fd31f61617887aa7fe318d018dda3f29", 3995468),
      ),
    },
    rows={"test": 5000, "p1": 5000, "p2": 2500},
    fields=_after_marks,
    answers="a number behind ####",
    license="CC BY-NC-ND 4.0",
    citation="Mirzadeh et al. 2024, GSM-Symbolic, arXiv:2410.05229",
  ),
  "gsm8k_platinum": Published(
    **_one(_file(f"{_HUB}madrylab/gsm8k-platinum/resolve/main/", "main/test-00000-of-00001.parquet"), 1209),
    fields=_after_marks,
    answers="a number behind ####; wrong golds of GSM8K's test set are corrected, ambiguous questions taken out",
    license="MIT",
    citation="Vendrow et al. 2025, Do Large Language Model Benchmarks Test Reliability?, arXiv:2502.03461",
  ),
  "tabmwp": Published(
    **_one(_file(_QWEN, "tabmwp/test.jsonl", blob="c686337440fecd60c23d3413d0a3acdb436f6180"), 1000),
    fields=_tabmwp,
    answers="a number, or one of the choices, or a time or a name in the table",
    license="CC BY-NC-SA 4.0",
    citation="Lu et al. 2023, Dynamic Prompt Learning via Policy Gradient (TabMWP), arXiv:2209.14610; its test1k",
  ),
  "cmath": Published(
    **_collected("cmath"),
    fields=_columns("question", "answer", _plain, subject="grade"),
    answers="a number, a fraction or a percentage",
    license="CC BY 4.0",
    citation="Wei et al. 2023, CMATH, arXiv:2306.16636",
    language="zh",
  ),
  "mgsm": Published(
    files={
      name: (_file(_MGSM, f"mgsm_{name}.tsv", sha256, size),)
      for name, (sha256, size) in sorted(_MGSM_FILES.items(), key=lambda item: item[0] != "en")
    },
    rows=dict.fromkeys(_MGSM_FILES, 250),
    fields=_columns("question", "answer", plain_number),
    answers=_NUMBER,
    license="CC BY-SA 4.0",
    citation="Shi et al. 2022, Language Models are Multilingual Chain-of-Thought Reasoners, arXiv:2210.03057",
    language="split",
  ),
  "gaokao2023en": Published(
    **_collected("gaokao2023en"),
    fields=_gaokao,
    answers=f"{_EXPRESSION}, or words",
    license="not stated",
    citation="Liao et al. 2024, MARIO, arXiv:2401.08190: the 2023 Gaokao in English; as Qwen2.5-Math has it",
    doubtful={"HMMT2023General_9, 052023SATS4_11": "no answer, which stands in the question instead; left out"},
  ),
  "college_math": Published(
    **_collected("college_math"),
    fields=_columns("question", "answer", _plain, subject="data_topic"),
    answers="a number, an expression, an equation, several of them, or words",
    license="of each textbook, CC BY 3.0 and the like",
    citation="Tang et al. 2024, MathScale, arXiv:2403.02884",
    doubtful={"words beside the answer (row 38: No solution : ⊘)": "read out of textbooks, some with the explanation"},
  ),
  "minerva_math": Published(
    **_collected("minerva_math"),
    fields=_minerva,
    answers=r"what the solution's last \boxed{} holds: a number, often rounded and without its unit, or an expression",
    license="CC BY-NC-SA 4.0 (MIT OpenCourseWare)",
    citation="Lewkowycz et al. 2022, Solving Quantitative Reasoning Problems with Language Models, arXiv:2206.14858",
    doubtful={"rounded physical values": "its authors allow a relative difference; ours wants the digits given"},
  ),
  "amc23": Published(
    **_collected("amc23"),
    fields=_columns("problem", "answer", plain_number),
    answers="a whole number; choices were taken out, so that some questions were reworded",
    license="© Mathematical Association of America",
    citation="AMC 12A and 12B of 2023, as AI-MO chose them; as Qwen2.5-Math has them",
  ),
  "aime24": Published(
    **_collected("aime24"),
    fields=_columns("problem", "answer", plain_number, solution="solution"),
    answers=_INTEGER,
    license="© Mathematical Association of America",
    citation="AIME I and II of 2024, as Qwen2.5-Math has them",
    doubtful={"2024 AIME I 12": "some copies say 384; right, and here, is 385 (NVIDIA-NeMo/Skills pull request 118)"},
  ),
  "aime25": Published(
    files={
      "test": (
        _file(_AIME, "test2025-I.jsonl", "fcdf97fe9bf3768e586c4f3b3d34d98a763893847e72234aa41e1ed5c67d977a", 6226),
        _file(_AIME, "test2025-II.jsonl", "69d966f7badd83a681d30efa9b4d587b4c692e4892b6ea5dc57d11d3934bf79a", 9426),
      )
    },
    rows={"test": 30},
    fields=_columns("problem", "answer", plain_number),
    answers=_INTEGER,
    license="© Mathematical Association of America",
    citation="AIME I and II of 2025, as GAIR-NLP/AIME-Preview has them",
  ),
  "aime26": _arena("aime_2026", 30, _INTEGER),
  "hmmt_feb25": _arena("hmmt_feb_2025", 30, _EXPRESSION),
  "hmmt_nov25": _arena("hmmt_nov_2025", 30, _EXPRESSION),
  "hmmt_feb26": _arena("hmmt_feb_2026", 33, _EXPRESSION),
  "beyond_aime": Published(
    **_one(_file(f"{_HUB}ByteDance-Seed/BeyondAIME/resolve/main/", "data/test-00000-of-00001.parquet"), 100),
    fields=_columns("problem", "answer", plain_number),
    answers="a whole number",
    license="CC0 1.0",  # from memory: the card was not at hand, nor was the name of its file
    citation="ByteDance Seed 2025, BeyondAIME, huggingface.co/datasets/ByteDance-Seed/BeyondAIME",
  ),
}
