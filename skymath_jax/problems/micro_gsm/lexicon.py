"""The words of the world: who, what, and the verbs of each subject. Small on purpose (a tiny model learns them all)."""

import dataclasses

GIRLS = ("Mia", "Ana", "Eva", "Ida", "Lia", "Nora", "Rosa", "Sara", "Zoe", "Ella")
BOYS = ("Leo", "Ben", "Max", "Tom", "Sam", "Noah", "Paul", "Omar", "Ivan", "Hugo")
GENERAL_GIRLS = ("the girl", "the woman")
GENERAL_BOYS = ("the boy", "the man")
SHE = frozenset(GIRLS + GENERAL_GIRLS)
HE = frozenset(BOYS + GENERAL_BOYS)
GENERAL_PERSONS = frozenset(GENERAL_GIRLS + GENERAL_BOYS)
PERSONS = SHE | HE
ADJECTIVES = ("red", "blue", "green", "small", "big", "new")
UNITS = ("day", "hour", "week")

# How 1 / divider may be said. "10%" and "20%" have no everyday word, "a third" has no whole percent.
FRACTIONS: dict[int, tuple[str, ...]] = {
  2: ("half", "50%"),
  3: ("a third",),
  4: ("a quarter", "25%"),
  5: ("20%",),
  10: ("10%",),
}
FRACTION_WORDS = {"half": 2, "a third": 3, "a quarter": 4}


@dataclasses.dataclass(frozen=True)
class Subject:
  """One field of life: its objects, what holds them, and the verbs for getting and losing them."""

  name: str
  objects: tuple[str, ...]
  container: str
  gains: tuple[str, ...]
  losses: tuple[str, ...]


GENERAL = Subject("general", ("things", "items"), "boxes", ("gets", "finds"), ("loses", "uses"))
SUBJECTS = (
  Subject("shopping", ("apples", "pears", "lemons", "eggs"), "bags", ("buys", "gets"), ("eats", "uses")),
  Subject("farm", ("carrots", "potatoes", "plums", "melons"), "baskets", ("picks", "collects"), ("sells", "eats")),
  Subject("school", ("pencils", "books", "pens", "stickers"), "boxes", ("gets", "buys"), ("loses", "gives away")),
  Subject("cooking", ("cookies", "muffins", "pies", "buns"), "trays", ("bakes", "makes"), ("eats", "sells")),
  Subject("sport", ("balls", "cards", "badges", "caps"), "packs", ("wins", "gets"), ("loses", "gives away")),
  Subject("travel", ("photos", "tickets", "maps", "coins"), "boxes", ("collects", "buys"), ("uses", "loses")),
  Subject("beach", ("shells", "stones", "pearls", "crabs"), "buckets", ("finds", "collects"), ("drops", "loses")),
  Subject("garden", ("roses", "tulips", "lilies", "bulbs"), "pots", ("grows", "picks"), ("sells", "gives away")),
)
SUBJECT_OF = {noun: subject for subject in (GENERAL, *SUBJECTS) for noun in subject.objects}


def pronoun(person: str) -> str:
  """`she` or `he`."""
  return "she" if person in SHE else "he"


def object_pronoun(person: str) -> str:
  """`her` or `him`."""
  return "her" if person in SHE else "him"
