"""The recipe: `stages` holds the list, each file beside it a stage, `workdir` what they leave.

Here the other rooms meet, and here the config ends: below, functions take plain arguments.
"""
