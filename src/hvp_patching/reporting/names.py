"""Display names of models, tasks, settings, component types and corruptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import MappingProxyType

from hvp_patching.places import SITES
from hvp_patching.reporting.results import ReportError
from hvp_patching.settings import Setting

MODEL_NAMES = MappingProxyType(
    {
        "smollm2-135m": "SmolLM2-135M",
        "gemma-3-270m": "Gemma-3-270M",
        "qwen2.5-coder-0.5b": "Qwen2.5-Coder-0.5B",
        "gpt2-small": "GPT-2 small",
        "pythia-410m": "Pythia-410M",
        "pythia-1b": "Pythia-1B",
        "pythia-2.8b": "Pythia-2.8B",
        "qwen2.5-0.5b": "Qwen2.5-0.5B",
        "qwen2.5-1.5b": "Qwen2.5-1.5B",
        "gemma-2-2b": "Gemma-2-2B",
        "gemma-2-9b": "Gemma-2-9B",
        "llama-3.1-8b": "Llama-3.1-8B",
    }
)


TASKS = MappingProxyType(
    {
        "ioi": "IOI",
        "greater_than": "Greater-Than",
        "factual": "Factual",
        "entity_swap": "Entity swap",
        "mcqa": "MCQA",
        "arithmetic_addition": "Addition",
        "arc_easy": "ARC (Easy)",
    }
)
# ids of sites in the published tables
PUBLISHED_COMPONENTS = MappingProxyType(
    {
        "attn_heads": "attention_head",
        "mlp_pre": "pre_act_neuron",
        "mlp_post": "post_act_neuron",
        "mlp_out": "mlp_output",
        "resid_post": "residual_stream",
    }
)
CORRUPTIONS = MappingProxyType(
    {
        "random_token": "one token drawn at random",
        "name_swap": "the repeated name replaced by the indirect object",
        "other_letters": "the choices' letters replaced by others",
        "other_sum": "other numbers, whose sum differs from the target on",
        "resample": "another prompt of the task, with as many tokens and another answer",
        "zero": "the patched activation set to zero at every position",
    }
)
BASE_RUNS = MappingProxyType(
    {
        "noising": "the clean run, into which the other run's activation is patched (noising)",
        "denoising": "the corrupted run, into which the clean run's activation is patched "
        "(denoising)",
    }
)


def model_name(model: str) -> str:
    """A model's display name; one that is not in the paper or a profile shows its id."""
    return MODEL_NAMES.get(model, model)


def task_name(task: str) -> str:
    """A task's display name; a task of the user's own shows its id."""
    return TASKS.get(task, task)


def task_label(setting: Setting) -> str:
    """The task's display name, with the corruption where it is another than usual."""
    other = f" ({corruption_name(setting.corruption)})" if setting.corruption else ""
    return f"{task_name(setting.task)}{other}"


def setting_label(setting: Setting) -> str:
    """Display names, as in "SmolLM2-135M, IOI"."""
    return f"{model_name(setting.model)}, {task_label(setting)}"


def corruption_name(corruption: str) -> str:
    """A corruption as the tables name it."""
    return corruption.replace("_", " ")


def component_name(site: str) -> str:
    """Heading of a site in the tables; ``ReportError`` listing the known ones."""
    if site not in SITES:
        known = ", ".join(SITES)
        raise ReportError(f"no table row for the site '{site}'; choose one of: {known}")
    return SITES[site].heading


def published_component(site: str) -> str:
    """Id of a site in the published tables; its own name where they have none.

    ``ReportError`` as ``component_name``.
    """
    component_name(site)
    return PUBLISHED_COMPONENTS.get(site, site)


def listed(models: Sequence[str]) -> str:
    """Display names of models as "A, B and C"."""
    *first, last = [model_name(model) for model in models]
    return f"{', '.join(first)} and {last}" if first else last


def stand_in_sentence(models: Iterable[str], published: Iterable[str]) -> str:
    """Says which models stand in for which of the paper's; empty where all are the paper's."""
    paper = list(dict.fromkeys(published))
    others = [model for model in dict.fromkeys(models) if model not in paper]
    if not others or not paper:
        return ""
    verb = "stands" if len(others) == 1 else "stand"
    return f"{listed(others)} {verb} in for the paper's {listed(paper)}."
