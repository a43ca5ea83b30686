"""Two or three rows of each published test set, in the format of its files; the problems are our own."""

import json
from pathlib import Path
from typing import Any

PARQUET = {"gsm8k_platinum", "aime26", "hmmt_feb25", "hmmt_nov25", "hmmt_feb26", "beyond_aime"}
GSM = [
  {"question": "Ida has 3 boxes of 12 pens. How many pens?", "answer": "3*12=<<3*12=36>>36.\n#### 36"},
  {"question": "A farm sells 1,200 eggs at $2. How much?", "answer": "1200*2=<<1200*2=2400>>2400.\n#### 2,400"},
]
ARENA = [
  {"problem_idx": 1, "problem": "Find the least $n > 0$ with $7 \\mid n$ and $n \\equiv 1 \\pmod 4$.", "answer": 21},
  {"problem_idx": 2, "problem": "Find $1 + 2 + \\dots + 20$.", "answer": 210},
]
HMMT = [
  {"problem_idx": 1, "problem": "Find $\\int_0^1 x^2\\,dx$.", "answer": "$\\frac{1}{3}$", "problem_type": ["Algebra"]},
  {"problem_idx": 2, "problem": "A square has area 8. Find its side.", "answer": "2\\sqrt{2}", "problem_type": []},
]
ROWS: dict[str, list[Any]] = {
  "svamp": [
    {"ID": "chal-1", "Body": "Noa had 9 plums. She ate 4", "Question": "How many are left?", "Type": "Subtraction",
     "Equation": "( 9.0 - 4.0 )", "Answer": 5.0},
    {"ID": "chal-2", "Body": "Six boats carry 48 men.", "Question": "How many in each?", "Type": "Common-Division",
     "Equation": "( 48.0 / 6.0 )", "Answer": 8.0},
  ],
  "asdiv": [
    {"body": "Ben has 4 red and 3 blue cups.", "question": "How many cups?", "solution_type": "Addition",
     "answer": "7 (cups)", "formula": "4+3=7", "idx": 0},
    {"body": "Of 8 birds 6 are white.", "question": "What is the ratio of white birds to others?",
     "solution_type": "Ratio", "answer": "3:1", "formula": "6:2=3:1", "idx": 1},
    {"body": "Ann is 5 and Kai is 7.", "question": "Who is older?", "solution_type": "Comparison", "answer": "Kai",
     "formula": "7>5", "idx": 2},
  ],
  "mawps": [
    {"input": "Tom found 7 shells and lost 2. How many has he?", "target": 5.0, "type": "addsub", "idx": 0},
    {"input": "A rope of 4.5 feet is cut in 3. How long is each?", "target": 1.5, "type": "singleop", "idx": 1},
  ],
  "gsm_plus": [
    {"question": "Two girls wear 4 rings, one wears 7. Average?", "solution": "15/3=5\n#### 5", "answer": "5",
     "perturbation_type": "numerical substitution", "seed_question": "q", "seed_answer": "4"},
    {"question": "A pie of 2.50 dollars and a tea of 1.25. Total?", "solution": "3.75", "answer": "3.75",
     "perturbation_type": "integer-decimal-fraction conversion", "seed_question": "q", "seed_answer": "4"},
    {"question": "Two girls wear rings. Average?", "solution": "unknown", "answer": "None",
     "perturbation_type": "critical thinking", "seed_question": "q", "seed_answer": "4"},
  ],
  "gsm_hard": [
    {"input": "A hen lays 5813274 eggs and 3 break. How many are whole?", "code": "def solution(): ...",
     "target": 5813271.0},
    {"input": "A cake is cut in 7. How much are 2 pieces of 9.1 pounds?", "code": "…", "target": 2.6},
  ],
  "gsm_symbolic": [{**row, "id": n, "instance": 0, "original_id": n, "canary": "c"} for n, row in enumerate(GSM)],
  "gsm8k_platinum": [{**row, "cleaning_status": "consensus"} for row in GSM],
  "tabmwp": [
    {"question": "How many cups were sold?", "table": "Day | Cups\nMonday | 4\nTuesday | 9", "table_title": "Cups sold",
     "choices": None, "answer": "13", "unit": None, "ans_type": "integer_number"},
    {"question": "Which day was best?", "table": "Day | Cups\nMonday | 4\nTuesday | 9", "table_title": None,
     "choices": ["Monday", "Tuesday"], "answer": "Tuesday", "unit": None, "ans_type": "extractive_text"},
  ],
  "cmath": [
    {"grade": 2, "question": "小明有8支笔，送出3支，还剩几支？", "answer": "5", "reasoning_step": 1, "num_digits": 1},
    {"grade": 6, "question": "一根绳子剪去四分之一，还剩几分之几？", "answer": "3/4", "reasoning_step": 1},
  ],
  "mgsm": [["Eva hat 3 Äpfel und kauft 4. Wie viele hat sie?", "7"], ["Ein Rad kostet 1.200 Euro, zwei?", "2,400"]],
  "gaokao2023en": [
    {"source": "s", "question": "Solve $x^2 < 4$.", "lang": "en", "answer": "$(-2,2)$"},
    {"source": "s", "question": "Given $f(x)=2x$, find $f(4)$.", "lang": "en", "answer": "8"},
    {"source": "s", "question": "Find the sum.answers: 4", "lang": "en", "answer": ""},
  ],
  "college_math": [
    {"data_source": "college_math.x", "question_number": "1", "question": "Simplify: $3(x+2)-x$", "answer": "$2x+6$",
     "license": "CC BY 3.0", "data_topic": "college_math.algebra"},
    {"data_source": "college_math.x", "question_number": "2", "question": "Solve $x^2=9$.", "answer": "$3,-3$",
     "license": "CC BY 3.0", "data_topic": "college_math.algebra"},
  ],
  "minerva_math": [
    {"problem": "A lens has $f = 2$ cm. Find its power per cm.", "solution": "So $1/2=\\boxed{0.5}$.", "type": "Optics",
     "idx": 0},
    {"problem": "Find $y$ with $y' = y$, $y(0)=1$.", "solution": "$y=\\boxed{e^x}$", "type": "Equations", "idx": 1},
  ],
  "amc23": [
    {"id": 0, "problem": "Two cars meet after 3 hours at 20 and 25 mph. How far apart were they?", "answer": 135.0,
     "url": "u"},
    {"id": 1, "problem": "Find $2^{-1}+\\frac12$.", "answer": 1.0, "url": "u"},
  ],
  "aime24": [
    {"id": 60, "problem": "Find $5^2$.", "solution": "$\\boxed{025}$", "answer": "025", "url": "u", "question": "q"},
    {"id": 61, "problem": "Find $11^2+2$.", "solution": "$\\boxed{123}$", "answer": "123", "url": "u", "question": "q"},
  ],
  "aime25": [{"id": "I-1", "problem": "Find $4^3+6$.", "solution": "", "answer": "70", "url": ""}],
  "aime26": ARENA,
  "hmmt_feb25": HMMT,
  "hmmt_nov25": HMMT,
  "hmmt_feb26": HMMT,
  "beyond_aime": [{"problem": "Find $2^{20}$.", "answer": 1048576}, {"problem": "Find $3^4$.", "answer": 81}],
}  # fmt: skip
ANSWERS = {
  "svamp": ["5", "8"], "asdiv": ["7", "3:1", "Kai"], "mawps": ["5", "1.5"], "gsm_plus": ["5", "3.75"],
  "gsm_hard": ["5813271", "2.6"], "gsm_symbolic": ["36", "2400"], "gsm8k_platinum": ["36", "2400"],
  "tabmwp": ["13", "Tuesday"], "cmath": ["5", "3/4"], "mgsm": ["7", "2400"], "gaokao2023en": ["(-2,2)", "8"],
  "college_math": ["2x+6", "3,-3"], "minerva_math": ["0.5", "e^x"], "amc23": ["135", "1"], "aime24": ["25", "123"],
  "aime25": ["70", "70"], "aime26": ["21", "210"], "hmmt_feb25": ["\\frac{1}{3}", "2\\sqrt{2}"],
  "hmmt_nov25": ["\\frac{1}{3}", "2\\sqrt{2}"], "hmmt_feb26": ["\\frac{1}{3}", "2\\sqrt{2}"],
  "beyond_aime": ["1048576", "81"],
}  # fmt: skip


def write(folder: Path, name: str, files: list[str]) -> None:
  """The sample of the set `name` as `folder/NAME/FILE`, for each of its files."""
  place = folder / name
  place.mkdir(parents=True, exist_ok=True)
  for file in files:
    if name in PARQUET:
      import pyarrow
      import pyarrow.parquet

      pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS[name]), place / file)
    elif file.endswith(".tsv"):
      (place / file).write_text("".join("\t".join(row) + "\n" for row in ROWS[name]))
    else:
      (place / file).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[name]))
