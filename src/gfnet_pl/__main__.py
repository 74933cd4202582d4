"""`python -m gfnet_pl` is the `gfnet` command."""

import sys

from gfnet_pl.cli import main

if __name__ == "__main__":
    sys.exit(main())
