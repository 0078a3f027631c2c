"""`python -m gencourse.cli` is the `gencourse` command."""

from gencourse.cli import main

if __name__ == "__main__":
    main()
