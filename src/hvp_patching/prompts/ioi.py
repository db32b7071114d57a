"""Indirect-object identification: "When Mary and John …, John gave …" → " Mary" (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.prompts.data_files import read_lists
from hvp_patching.prompts.pair import PromptPair
from hvp_patching.prompts.seeded import draw
from hvp_patching.prompts.task import Task, take

FILE = "ioi.yaml"
# Ten times what the paper needs at most, and still a vanishing part of the possible combinations.
POOL = 3000


def names() -> list[str]:
    """The first names that the prompts and the `abc` corruption draw from."""
    return read_lists(FILE, ("names",))["names"]


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Distinct prompts; the names' orders ABBA and BABA alternate, so even numbers are balanced."""
    data = read_lists(FILE, ("templates", "names", "places", "objects"))
    # Two seeds make different prompts, so their ids must differ too.
    prefix = "ioi" if seed == 0 else f"ioi-s{seed}"
    seen: set[str] = set()
    for index in range(POOL):
        attempt = 0
        while (prompt := _prompt(data, seed, index, attempt))[0] in seen:
            attempt += 1
        seen.add(prompt[0])
        yield PromptPair(prompt[0], target=f" {prompt[1]}", prompt_id=f"{prefix}-{index:04d}")


def _prompt(data: dict[str, list[str]], seed: int, index: int, attempt: int) -> tuple[str, str]:
    def pick(entries: list[str], what: str) -> str:
        return entries[draw(len(entries), seed, "ioi", index, what, attempt)]

    indirect_object = pick(data["names"], "indirect object")
    subject = pick([name for name in data["names"] if name != indirect_object], "subject")
    abba = index % 2 == 0
    text = pick(data["templates"], "template").format(
        first=indirect_object if abba else subject,
        second=subject if abba else indirect_object,
        subject=subject,
        place=pick(data["places"], "place"),
        object=pick(data["objects"], "object"),
    )
    return text, indirect_object


def pairs(n: int | None, seed: int = 0) -> list[PromptPair]:
    """The first `n` prompts (None: all), not yet corrupted; PromptError where fewer exist."""
    return take(TASK.name, candidates(seed), n)


TASK = Task("ioi", candidates, corruptions=("name_swap", "abc", "random_token", "resample", "zero"))
