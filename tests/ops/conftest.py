"""Property tests search a fixed number of tiny examples, however slow the machine."""

from hypothesis import settings

settings.register_profile("framelift", deadline=None, max_examples=60)
settings.load_profile("framelift")
