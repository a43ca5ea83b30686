"""The sentences of the world: every relation and every question in several wordings, for rendering and for parsing.

Slots: {N} {M} names · {P} name or she/he · {H} name or her/him · {O} objects · {C} containers · {G} verb of getting ·
{L} verb of losing · {u} {U} unit of time, singular and plural · {F} fraction or percentage · {a} {b} the numbers.
Closing questions hold no comma, so that the text after the last full stop is the whole question.
"""

from collections.abc import Mapping

BODY: dict[str, tuple[str, ...]] = {
  "start": (
    "{N} has {a} {O}.",
    "{N} starts with {a} {O}.",
    "At first {N} has {a} {O}.",
    "{N} owns {a} {O}.",
  ),
  "groups": (
    "{N} has {a} {C} of {b} {O} each.",
    "{N} has {a} {C} with {b} {O} in each.",
    "{N} owns {a} {C} and each holds {b} {O}.",
    "In each of {a} {C} {N} has {b} {O}.",
  ),
  "rate": (
    "{N} {G} {a} {O} per {u} for {b} {U}.",
    "{N} {G} {a} {O} every {u} for {b} {U}.",
    "For {b} {U} {N} {G} {a} {O} each {u}.",
    "Each {u} {N} {G} {a} {O} and does so for {b} {U}.",
  ),
  "gain": (
    "{P} {G} {a} more {O}.",
    "Then {P} {G} {a} more {O}.",
    "Later {P} {G} {a} more.",
    "A friend gives {H} {a} more {O}.",
  ),
  "loss": (
    "{P} {L} {a} {O}.",
    "Then {P} {L} {a} of the {O}.",
    "After that {P} {L} {a} {O}.",
    "{P} gives {a} of the {O} to a friend.",
  ),
  "times": (
    "Soon {P} has {a} times as many {O}.",
    "A month later {P} has {a} times as many.",
    "{P} works hard and gets {a} times as many {O}.",
    "Then the {O} of {N} become {a} times as many.",
  ),
  "split": (
    "{P} splits the {O} into {a} equal piles and keeps one pile.",
    "{P} makes {a} equal piles of the {O} and keeps one.",
    "Of {a} equal piles of the {O} {P} keeps only one.",
    "{P} shares the {O} equally in a group of {a} people.",
  ),
  "keep": (
    "{P} keeps only {F} of the {O}.",
    "Then {P} keeps {F} of the {O} and no more.",
    "After that only {F} of the {O} stay with {H}.",
  ),
  "lossf": (
    "{P} {L} {F} of the {O}.",
    "Then {P} {L} {F} of the {O}.",
    "After that {P} {L} {F} of them.",
    "{P} gives {F} of the {O} to a friend.",
  ),
  "ggain": (
    "{P} {G} {a} {C} of {b} {O} each.",
    "Then {P} {G} {a} {C} with {b} {O} in each.",
    "{P} {G} {a} {C} and each holds {b} {O}.",
    "A friend gives {H} {a} {C} of {b} {O} each.",
  ),
  "rgain": (
    "{P} {G} {a} more {O} per {u} for {b} {U}.",
    "Then {P} {G} {a} more {O} every {u} for {b} {U}.",
    "For {b} {U} {P} {G} {a} more {O} each {u}.",
  ),
  "rloss": (
    "{P} {L} {a} {O} per {u} for {b} {U}.",
    "Then {P} {L} {a} {O} every {u} for {b} {U}.",
    "For {b} {U} {P} {L} {a} {O} each {u}.",
  ),
  "more": (
    "{M} has {a} more {O} than {N}.",
    "{M} owns {a} more {O} than {N}.",
    "{M} has as many {O} as {N} and {a} more.",
    "Compared with {N} {M} has {a} more {O}.",
  ),
  "fewer": (
    "{M} has {a} fewer {O} than {N}.",
    "{M} owns {a} fewer {O} than {N}.",
    "Compared with {N} {M} has {a} fewer {O}.",
  ),
  "ctimes": (
    "{M} has {a} times as many {O} as {N}.",
    "{M} owns {a} times as many {O} as {N}.",
    "Compared with {N} {M} has {a} times as many {O}.",
  ),
  "cfrac": (
    "{M} has {F} as many {O} as {N}.",
    "{M} owns {F} as many {O} as {N}.",
    "Compared with {N} {M} has {F} as many {O}.",
  ),
}

# The sentence before the question, for what is asked about one person and about the two together.
CONDITION: dict[str, tuple[str, ...]] = {
  "price": (
    "{P} sells all the {O} for {a} dollars each.",
    "{P} gets {a} dollars for each of the {O}.",
    "Then {P} sells the {O} at {a} dollars each.",
  ),
  "pack": (
    "{P} puts the {O} in {C} of {a}.",
    "{P} fills {C} with {a} {O} in each.",
    "Then {P} puts {a} of the {O} in each of some {C}.",
  ),
  "share": (
    "{P} shares the {O} equally among {a} friends.",
    "{P} gives all the {O} to {a} friends in equal parts.",
    "Then {P} shares all the {O} among {a} friends equally.",
  ),
  "need": (
    "{P} wants to have {a} {O}.",
    "{P} needs {a} {O} in all.",
    "The goal of {N} is {a} {O}.",
  ),
}
CONDITION_BOTH: dict[str, tuple[str, ...]] = {
  "price": (
    "They sell all the {O} for {a} dollars each.",
    "They get {a} dollars for each of the {O}.",
    "Then they sell the {O} at {a} dollars each.",
  ),
  "pack": (
    "They put the {O} in {C} of {a}.",
    "They fill {C} with {a} {O} in each.",
    "Then they put {a} of the {O} in each of some {C}.",
  ),
  "share": (
    "They share the {O} equally among {a} friends.",
    "They give all the {O} to {a} friends in equal parts.",
    "Then they share all the {O} among {a} friends equally.",
  ),
  "need": (
    "They want to have {a} {O}.",
    "They need {a} {O} in all.",
    "Their goal is {a} {O}.",
  ),
}

# (question, the statement that question and answer {a} make)
QUESTION: dict[str, tuple[tuple[str, str], ...]] = {
  "own": (
    ("How many {O} does {P} have now?", "{P} has {a} {O} now."),
    ("How many {O} does {P} have in the end?", "{P} has {a} {O} in the end."),
    ("What is the number of {O} that {P} has now?", "The number of {O} that {P} has now is {a}."),
  ),
  "total": (
    ("How many {O} do they have together?", "They have {a} {O} together."),
    ("How many {O} do {N} and {M} have in all?", "{N} and {M} have {a} {O} in all."),
    ("What is the total number of {O}?", "The total number of {O} is {a}."),
  ),
  "diff": (
    ("How many more {O} does {N} have than {M}?", "{N} has {a} more {O} than {M}."),
    ("How many fewer {O} does {M} have than {N}?", "{M} has {a} fewer {O} than {N}."),
    ("By how many {O} is {N} ahead of {M}?", "{N} is ahead of {M} by {a} {O}."),
  ),
  "price": (
    ("How many dollars does {P} get in all?", "{P} gets {a} dollars in all."),
    ("How many dollars does {P} have after that?", "{P} has {a} dollars after that."),
  ),
  "pack": (
    ("How many {C} does {P} fill?", "{P} fills {a} {C}."),
    ("How many {C} does {P} need?", "{P} needs {a} {C}."),
  ),
  "share": (
    ("How many {O} does each friend get?", "Each friend gets {a} {O}."),
    ("How many {O} are there for each friend?", "There are {a} {O} for each friend."),
  ),
  "need": (
    ("How many more {O} does {P} need?", "{P} needs {a} more {O}."),
    ("How many {O} does {P} still have to get?", "{P} still has to get {a} {O}."),
  ),
}
QUESTION_BOTH: dict[str, tuple[tuple[str, str], ...]] = {
  "price": (
    ("How many dollars do they get in all?", "They get {a} dollars in all."),
    ("How many dollars do they have after that?", "They have {a} dollars after that."),
  ),
  "pack": (
    ("How many {C} do they fill?", "They fill {a} {C}."),
    ("How many {C} do they need?", "They need {a} {C}."),
  ),
  "share": QUESTION["share"],
  "need": (
    ("How many more {O} do they need?", "They need {a} more {O}."),
    ("How many {O} do they still have to get?", "They still have to get {a} {O}."),
  ),
}


def sentence(template: str, slots: Mapping[str, object]) -> str:
  """Fills in a template and starts it with a capital."""
  text = template.format_map(slots)
  return text[0].upper() + text[1:]
