"""`python -m midms` is the program `midms`."""

from __future__ import annotations

import sys

from midms.cli import main

if __name__ == "__main__":
    sys.exit(main())
