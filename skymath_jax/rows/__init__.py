"""Tables of rows that a user may bring, in one place: seeds, training pairs, what is to be curated, test sets.

  rows.read("pairs.jsonl.gz")              JSON lines, JSON, CSV, TSV, Parquet, Arrow; .gz, .bz2, .xz, .zst
  rows.read("folder:train")                one split of a folder as hubs and `save_to_disk` lay it out
  rows.read("ORG/NAME@revision:train")     a data set of the Hugging Face hub
  rows.read("metamathqa")                  one of the public sets of `presets.py`

`columns` finds query, response or messages in such a row.
"""

from skymath_jax.rows.places import Table, find, is_table, read

__all__ = ["Table", "find", "is_table", "read"]
