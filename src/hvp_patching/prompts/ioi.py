"""Indirect-object identification: "When Mary and John …, John gave …" → " Mary" (section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.prompts.data_files import check_templates, read_lists
from hvp_patching.prompts.pair import PromptError, PromptPair
from hvp_patching.prompts.seeded import draw
from hvp_patching.prompts.task import Task, take

FILE = "ioi.yaml"
# Ten times what the paper needs at most, and still a vanishing part of the possible combinations.
POOL = 3000
ATTEMPTS = 1000  # draws of a prompt that is not there yet
PLACES = ("first", "second", "subject", "place", "object")


def names() -> list[str]:
    """The first names that the prompts and the `abc` corruption draw from."""
    return read_lists(FILE, ("names",))["names"]


def candidates(seed: int = 0) -> Iterator[PromptPair]:
    """Distinct prompts; the names' orders ABBA and BABA alternate, so even numbers are balanced.

    Fewer than POOL where the lists make no more. PromptError for a template of other places.
    """
    data = read_lists(FILE, ("templates", "names", "places", "objects"))
    check_templates(FILE, data["templates"], PLACES)
    if len(data["names"]) < 2:
        raise PromptError(f"{FILE}: one name; give two at least")
    # Two seeds make different prompts, so their ids must differ too.
    prefix = "ioi" if seed == 0 else f"ioi-s{seed}"
    seen: set[str] = set()
    for index in range(POOL):
        drawn = (_prompt(data, seed, index, attempt) for attempt in range(ATTEMPTS))
        prompt = next((one for one in drawn if one[0] not in seen), None)
        if prompt is None:
            return  # short lists have no more
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
