"""A limit on the memory of a process, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_under_a_limit_a_process_is_refused_what_does_not_fit_and_has_all_again_afterwards():
    code = """
from tunectl.execution.memory_limit import limited_memory
with limited_memory(64 * 2**20):
    bytearray(32 * 2**20)
    try:
        bytearray(128 * 2**20)
        print("no limit")
    except MemoryError:
        print("refused")
bytearray(128 * 2**20)
with limited_memory(None):
    bytearray(128 * 2**20)
print("given")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["refused", "given"]
