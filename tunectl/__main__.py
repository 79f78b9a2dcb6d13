"""`python -m tunectl`."""

import sys

if not sys.flags.safe_path:
    # The current folder, which may have a json.py of its own; the `tunectl` command does not have it either.
    del sys.path[0]

from tunectl.cli.main import main

if __name__ == "__main__":
    main()
