"""What holds for all tests: random examples are few and always the same ones; `make fuzz` tries many new ones."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("suite", max_examples=40, derandomize=True)
settings.load_profile("suite")
