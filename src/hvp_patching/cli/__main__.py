"""`python -m hvp_patching.cli`, where the console script is not on the path."""

from __future__ import annotations

from hvp_patching.cli.app import main

if __name__ == "__main__":
    main()
