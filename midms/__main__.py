"""`python -m midms` is the program `midms`."""

from __future__ import annotations

from midms.cli import program

if __name__ == "__main__":
    program()
