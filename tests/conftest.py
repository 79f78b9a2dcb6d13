"""What holds for all tests: random examples are few and always the same ones; `make fuzz` tries many new ones.

A finding or a plot that fails is passed over where users are at work; here it is raised.
"""

from __future__ import annotations

import os

from hypothesis import settings

os.environ["TUNECTL_RAISE_FAULTS"] = "1"

settings.register_profile("suite", max_examples=40, derandomize=True)
settings.load_profile("suite")
