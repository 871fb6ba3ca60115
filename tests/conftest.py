"""What all tests share: Hypothesis looks for the same examples on every run and every machine."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
