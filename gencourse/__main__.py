"""`python -m gencourse` is the `gencourse` command."""

from gencourse.cli import main

if __name__ == "__main__":
    main()
