"""What all tests share."""

from hypothesis import settings

# The machine is shared: a property that takes 8 ms has once taken 270, and hypothesis calls it unreliable above 200.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
