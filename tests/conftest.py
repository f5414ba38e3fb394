"""How many examples a property gets: few in the quick run, many where time is given.

The quick run draws the same examples each time, so that what fails was broken by the change at hand; the
thorough one draws new ones.

`pytest --hypothesis-profile=thorough` (a step of `make exhaustive`) takes the second profile. Properties that
cost more or less than most ask for a share of `settings.default.max_examples`, so that both profiles reach them.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=500, deadline=None)
settings.load_profile("quick")
