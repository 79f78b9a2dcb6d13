"""`tunectl`, for which a file server is late by another time than it is for users: torture_workers.py scales all times.

python -P scripts/scaled_tunectl.py SECONDS WORDS...
"""

from __future__ import annotations

import sys

from tunectl.store import heartbeats

heartbeats.LATE_SECONDS = float(sys.argv.pop(1))  # before other modules take it from there

from tunectl.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
