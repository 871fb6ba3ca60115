"""What all tests share: Hypothesis looks for the same examples on every run and every machine."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
# `make mutation` runs each test some hundred times.
settings.register_profile("mutation", derandomize=True, deadline=None, max_examples=30, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
