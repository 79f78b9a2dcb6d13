"""How many examples a fuzz test tries: few and always the same ones, or many new ones where that is asked for."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_MANY = os.environ.get("TUNECTL_FUZZ_EXAMPLES", "")


def examples(few: int) -> settings:
    """`few` examples that never change; TUNECTL_FUZZ_EXAMPLES of them, drawn again, if it is set (`make fuzz`)."""
    return settings(
        max_examples=int(_MANY or few),
        derandomize=not _MANY,
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )
