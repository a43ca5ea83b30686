"""The recipe: its stages, where the other rooms meet, and where the config ends.

Each stage is a function that takes a `Run`, reads folders of the workdir, writes its own, and returns the facts that
its completion mark keeps; `output` is the hash by which later stages notice a change.
"""
