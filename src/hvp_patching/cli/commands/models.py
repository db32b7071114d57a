"""`hvp-patching models`: what the registry has."""

from __future__ import annotations


def models() -> None:
    """The models of the registry: parameters, source, licence, and whether they are here.

    Any other model is given to --model as a local folder, a Hub repository or a TransformerLens
    name.
    """
    from hvp_patching.cli.registry import listing, notes
    from hvp_patching.cli.show import output

    console = output()
    console.print(listing())
    for note in notes():
        console.print(note, style="dim", highlight=False, markup=False)
