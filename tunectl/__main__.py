"""`python -m tunectl`."""

from tunectl.cli.main import main

if __name__ == "__main__":
    main()
