r"""The sources of the catalog: GSM8K, MATH, AGIEval, OlympiadBench, SciBench, JEEBench.

Addresses point at fixed commits of public repositories; checksums are of the files as they are there. Each class says
what is odd about its data. The paper's seeds are MATH train and the mathematics of the four others (Skywork section 3).
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from skymath_jax import files, grading
from skymath_jax.errors import UserError
from skymath_jax.problems.builder import RemoteFile, Source, Version, rows_of, with_ids, without_dollars
from skymath_jax.records import Problem

_RAW = "https://raw.githubusercontent.com/"
_GSM8K = _RAW + "openai/grade-school-math/3101c7d5072418e28b9008a6636bde82a006892c/grade_school_math/data/"
_MATH_TRAIN = _RAW + "MChatzakis/ChatMGL/64c777fc94f9910f3e08e5809a916f35b398ea86/data/MATH/"
_MATH_TEST = _RAW + "microsoft/ToRA/213c1c995038c73fab10343814df7a42f990f026/src/data/math/"
_AGIEVAL = _RAW + "ruixiangcui/AGIEval/5c77d073fda993f1652eaae3cf5d04cc5fd21d40/data/v1/"
_OLYMPIADBENCH = _RAW + "hkust-nlp/dart-math/219b32467b55f7c610195e148b56df3431e1a963/data/dsets/olympiadbench/"
_SCIBENCH = _RAW + "mandyyyyii/scibench/e14e0ca3d3db0f02928a18d435b9c3d15656a7c5/dataset/original/"
_JEEBENCH = _RAW + "somethingdevs/cs678-jeebench/c640d56ad8fd0fad12e19cc0f86867fbb234b754/data/"


def _file(base: str, name: str, size: int, sha256: str, *, local: str | None = None) -> RemoteFile:
  return RemoteFile(local or name, base + name, sha256, size)


def _clean(text: str) -> str:
  return text.replace("\r\n", "\n").strip()


class Gsm8k(Source):
  """Grade-school word problems; the solution ends in `#### N`, with `<<2*3=6>>` calculator notes in the text.

  The set has no levels; ours is the number of calculations in the solution, 5 for more: so it has a hard stage, too.
  """

  VERSION = Version("1.1.0")  # 1.0.0 had no levels
  DEFAULT, LICENSE = ("train",), "MIT"
  HOMEPAGE = "https://github.com/openai/grade-school-math"
  CITATION = "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168"
  FILES = {
    "train": (
      _file(_GSM8K, "train.jsonl", 4166206, "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465"),
    ),
    "test": (_file(_GSM8K, "test.jsonl", 749738, "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),),
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """The answer is what follows `####`, without thousands separators."""
    rows = (
      {
        "question": row["question"].strip(),
        "solution": row["answer"],
        "answer": row["answer"].rpartition("####")[2].strip().replace(",", ""),
        "level": min(max(row["answer"].count("<<"), 1), 5),
      }
      for row in rows_of(path)
    )
    return with_ids(cls.name, rows, license=cls.LICENSE)


_SUBJECTS = (
  "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
  "precalculus",
)  # fmt: skip
_MATH_SIZES = {
  "train/algebra": (1015243, "fe6e27f4d58c3a072f5395fb95b3548490e7cb1a08ce9387ac892ef977cb42bd"),
  "train/counting_and_probability": (670127, "e0db9235ee370435b7c5ba8be6a6abc496f9a2869b6da28fd3ee5a6815593664"),
  "train/geometry": (1078502, "65806b94ae20744e57c1d01ad7118f48ed8813637eb19d06613d589026986498"),
  "train/intermediate_algebra": (1167123, "b9184fba6f57fdf754c1d94ed80a4a006f7343a7c4bee5f9d1f98ab24edd479c"),
  "train/number_theory": (618749, "d25b92d05bf420f549071532a87d4faf71cbde7c0c04d8b3b192f9294b072a35"),
  "train/prealgebra": (757074, "09d69ce1949ad8c8db1545bb6ade286e5939f94e7b2287138fc3600cc36f5fc0"),
  "train/precalculus": (845922, "6cd8c08a3c0affe382efb3f0c48e5fd4ecb4a61bd76419a85b6628e9e627f9b5"),
  "val/algebra": (111141, "27c0e2e62e5e57a7d5000e71f5ebbf9ec8f31c3157c5e1472b5b173510212eb2"),
  "val/counting_and_probability": (74509, "479ecfd45d6fd2e59fba19d88e7eb9f527f4a9fa8659ba41013a2206464d8372"),
  "val/geometry": (110966, "77ee861c1770fafbac04649edd72aef9903ee19005b039e2e7a37e9b5d789394"),
  "val/intermediate_algebra": (148373, "a2094f9fb9736aeafd0c891b23fdaac7d7e760ec05018269776d2fc22af63740"),
  "val/number_theory": (63132, "ac6fb175a4a36aee983245fca7006c4911dfe07505093223277ba32d3525d4d2"),
  "val/prealgebra": (80003, "f9909cbb8b96342402d48a916263446d4e9acc10b67b94e3f4c728bef2f2b792"),
  "val/precalculus": (92967, "935fde71166c0c2d23bea3132bd0bef793009b859cbee3b34fa584542d363d79"),
}
# Over the sorted "problem NUL solution" lines: the same for every copy of the set, whatever its files look like.
MATH_CONTENT = {
  "train": "ef7c725b9f062e583d3ef9dad66de2047651033a08478f5a4e7b4b2ffc50cb6c",
  "test": "b6dd71f9807ca7a8a8e9a8c887990d714952e96ba424a71db35dab82823d5f74",
}


class Math(Source):
  r"""Competition problems with worked solutions, `\boxed` answers, levels 1–5 and seven subjects.

  Two training problems have "Level ?"; some solutions hold several boxes, of which the last is the answer.
  """

  DEFAULT, LICENSE = ("train",), "MIT"
  HOMEPAGE = "https://github.com/hendrycks/math"
  CITATION = "Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset, arXiv:2103.03874"
  FILES = {
    "train": tuple(
      _file(_MATH_TRAIN, f"{name}.json", *facts, local=f"{name.replace('/', '_')}.json")
      for name, facts in _MATH_SIZES.items()
    ),
    "test": (
      _file(_MATH_TEST, "test.jsonl", 4101364, "3371949f33dd702d04b43fddd7d53a028de0aaca0e76abb1b875a050297b3aa4"),
    ),
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """The subject is `type`, or else the name of the folder or file."""
    path = epath.Path(path)
    place = next((subject for subject in _SUBJECTS if subject in (path.parent.name, path.stem)), "")
    rows = (
      {
        "question": row["problem"].strip(),
        "solution": row["solution"],
        "answer": grading.gold_answer(row["solution"]),
        "level": int(row["level"][-1]) if row["level"][-1:].isdigit() else None,
        "subject": row.get("type") or place.replace("_and_", " & ").replace("_", " ").title() or None,
      }
      for row in rows_of(path)
    )
    return with_ids(cls.name, rows, license=cls.LICENSE)

  @classmethod
  def by_hand(cls, folder: epath.Path, split: str) -> list[epath.Path] | None:
    """One `SPLIT.jsonl`, or the folder `SPLIT/` of the original archive; accepted by content, not by bytes.

    Raises:
      UserError: the problems in them are not those of MATH.
    """
    paths = [path for path in (folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz") if path.exists()][:1]
    if not paths and (folder / split).is_dir():
      # sorted by subject, then by the number in the file's name; `val/` is the rest of one copy's training set
      places = (split, "val") if split == "train" else (split,)
      found = [
        path for place in places for depth in ("*.json", "*/*.json") for path in files.matching(folder / place, depth)
      ]
      paths = sorted(found, key=lambda path: (path.parent.name, path.name.zfill(16)))
    if not paths:
      return None
    texts = sorted(f"{row['problem']}\0{row['solution']}" for path in paths for row in rows_of(path))
    content = hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()
    if content != MATH_CONTENT[split]:
      raise UserError(
        f"these {len(texts):,} problems are not those of MATH {split} (content hash {content[:16]})",
        where=paths[0] if len(paths) == 1 else folder / split,
        remedy="fetch the set again, or name your own file by its path (ending in .jsonl)",
      )
    return paths


class Agieval(Source):
  """The mathematics of AGIEval v1: SAT and AQuA-RAT (English), Gaokao choice and cloze (Chinese).

  Its `math` subset is 1,000 problems of the MATH *test* set: only for those who ask for `agieval:math` by name.
  """

  LICENSE = "MIT"
  DEFAULT = ("sat_math", "aqua_rat", "gaokao_mathqa", "gaokao_mathcloze")
  HOMEPAGE = "https://github.com/ruixiangcui/AGIEval"
  CITATION = "Zhong et al. 2023, AGIEval: A Human-Centric Benchmark for Evaluating Foundation Models, arXiv:2304.06364"
  FILES = {
    name.replace("-", "_"): (_file(_AGIEVAL, f"{name}.jsonl", size, sha256),)
    for name, size, sha256 in (
      ("sat-math", 280509, "9cde4c0522b6196852a5562db6e72bf8817b4802822db0fc10013d1becdab3c3"),
      ("aqua-rat", 141196, "cff42e946e6082dacb27285dae19cb4be98408ab760fe43c6c462e543be50572"),
      ("gaokao-mathqa", 139660, "d246f12752d121289ef55cbf1bcf954243cefb65d110f71d09358e24065c808f"),
      ("gaokao-mathcloze", 38690, "088675c147794970a3ed25c7147a3bbc59715d6813837d5f483f46dcb1b5008d"),
      ("math", 902609, "43e783af2025318125a96a970a0df37941124a5c0dabea382a12ce1b04651a11"),
    )
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """Choices follow the question, one a line; the answer of such a row is its letter or letters."""
    return with_ids(cls.name, map(cls._fields, rows_of(path)), license=cls.LICENSE)

  @staticmethod
  def _fields(row: dict[str, Any]) -> dict[str, Any]:
    question = re.sub(r"(\\\\\s*)+$", "", _clean(row["question"])).rstrip()
    other, label = row.get("other") or {}, row.get("label")
    return {
      "question": "\n".join(part.strip() for part in (row["passage"], question, *(row["options"] or ())) if part),
      "answer": label.replace(" ", "") if label else row["answer"].strip(),
      "solution": other.get("solution"),
      "level": other.get("level"),
      "subject": other.get("type"),
      "language": "zh" if re.search(r"[\u4e00-\u9fff]", question) else "en",
    }


class Olympiadbench(Source):
  """OlympiadBench's open-ended, text-only, English mathematics (OE_TO_maths_en_COMP): no proofs."""

  DEFAULT, LICENSE = ("test",), "Apache-2.0"
  HOMEPAGE = "https://github.com/OpenBMB/OlympiadBench"
  CITATION = "He et al. 2024, OlympiadBench, arXiv:2402.14008"
  FILES = {
    "test": (
      _file(
        _OLYMPIADBENCH,
        "OE_TO_maths_en_COMP.json",
        1587049,
        "3567c23130004c8936543aeb06739f094fcdcb1688cb2b655d0b18e7e1e3d4f9",
      ),
    )
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """Of several solutions the first is taken; several answers stay in one string, as the source has them."""
    rows = (
      {
        "question": "\n".join(_clean(part) for part in (row["context"], row["question"]) if part),
        "solution": _clean(row["solution"][0]),
        "answer": without_dollars(row["final_answer"][0]),
        "subject": row["subfield"],
      }
      for row in rows_of(path)
    )
    return with_ids(cls.name, rows, license=cls.LICENSE)


class Scibench(Source):
  """SciBench's mathematics textbooks: calculus, differential equations, statistics; some with a worked solution."""

  DEFAULT, LICENSE = ("calculus", "diff", "stat"), "MIT"
  HOMEPAGE = "https://github.com/mandyyyyii/scibench"
  CITATION = "Wang et al. 2023, SciBench, arXiv:2307.10635"
  FILES = {
    name: (
      _file(_SCIBENCH, f"{name}.json", size, sha256),
      _file(_SCIBENCH, f"{name}_sol.json", worked_size, worked_sha256),
    )
    for name, size, sha256, worked_size, worked_sha256 in (
      (
        "calculus",
        19450,
        "69779c85d33afe2bf17d6f2a0cb7ccbb172e609cc21c3e86b17e1c21eb9fb2c6",
        9994,
        "9919e5c1eaa94f7ee4e1e380471829495fd636a2649550eb86c197988ef81450",
      ),
      (
        "diff",
        22193,
        "009547bcb646c7c88532908b9c3a689f02af66233869ea6e35c2d7c676478565",
        9172,
        "24d09417f68c93b32fb3849216f490c0f989f165729a6328b44faca7a4a45af5",
      ),
      (
        "stat",
        32125,
        "a0f84cf8fbb94512174e4ecddb5a7bfa2b6ce7ddde0094c70d886a51a003dcfb",
        15270,
        "a232011beb1dc550c7a9d0a24aa549735730e8130bd8c80600703e1d51eb3bbd",
      ),
    )
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """The answer is the LaTeX one where there is one (the number is its decimal value); units are left out."""
    rows = (
      {
        "question": _clean(row["problem_text"]),
        "answer": without_dollars(row["answer_latex"]) or row["answer_number"].strip(),
        "solution": _clean(row.get("solution", "")) or None,
        "subject": row["source"].strip(),
      }
      for row in rows_of(path)
    )
    return with_ids(cls.name, rows, license=cls.LICENSE)


class Jeebench(Source):
  """The 236 mathematics problems of JEEBench; an answer such as "ABD" names all choices that are right."""

  DEFAULT, LICENSE = ("test",), "MIT"
  HOMEPAGE = "https://github.com/dair-iitd/jeebench"
  CITATION = "Arora et al. 2023, Have LLMs Advanced Enough? (JEEBench), arXiv:2305.15074"
  FILES = {
    "test": (
      _file(_JEEBENCH, "dataset.json", 374599, "c9e46ee7585ff83711e89f18e067ee447c88c08602f837b328c5a169c3011de0"),
    )
  }

  @classmethod
  def parse(cls, path: epath.PathLike) -> Iterator[Problem]:
    """Physics and chemistry are left out."""
    rows = (
      {"question": _clean(row["question"]), "answer": row["gold"].strip(), "subject": row["type"]}
      for row in rows_of(path)
      if row["subject"] == "math"
    )
    return with_ids(cls.name, rows, license=cls.LICENSE)
