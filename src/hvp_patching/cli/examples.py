"""One example per command, shown by --help and run by the tests."""

from __future__ import annotations

EXAMPLES = {
    "screen": "Example: hvp-patching screen --model smollm2-135m --pairs pairs.csv --budget 60s",
    "patch": "Example: hvp-patching patch --model smollm2-135m --pairs pairs.csv --top 10",
    "jets": "Example: hvp-patching jets --model smollm2-135m --pairs pairs.csv "
    "--estimators ap,hvp,ms_hvp_5 --exact",
    "models": "Example: hvp-patching models",
    "verify": "Example: hvp-patching verify .",
}


def command_of(example: str) -> str:
    """The command line of an example."""
    return example.partition(": ")[2]
