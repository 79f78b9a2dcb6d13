"""`python -m tunectl`."""

import sys

if not sys.flags.safe_path:
    # The current folder, which may hold a json.py of somebody else's; the `tunectl` command does not have it either.
    del sys.path[0]

from tunectl.cli.main import main

if __name__ == "__main__":
    main()
