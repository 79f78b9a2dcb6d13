from __future__ import annotations

import pytest
from made_up_page import made_up_page


@pytest.fixture(scope="session")
def every_figure():
    return [figure for section in made_up_page(12, 5).sections for figure in section.figures]
