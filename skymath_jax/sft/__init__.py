"""Training pairs: the SFT data set on disk (`dataset`), and text generated from the micro world (`texts`)."""

from skymath_jax.sft.dataset import FACTS, ROWS_PER_SHARD, SFTDataset, Shard, features, finish, open, write, write_shard

__all__ = ["FACTS", "ROWS_PER_SHARD", "SFTDataset", "Shard", "features", "finish", "open", "write", "write_shard"]
