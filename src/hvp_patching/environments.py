"""Where numbers were computed: what may change their last digits, carried on to the artefact.

Every store entry records its environment, every parquet file those of the entries behind it
(``frame.attrs``, which pandas keeps in the file), and an artefact's comment names them all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTE = "environments"  # in frame.attrs
PANDAS_ATTRS = b"PANDAS_ATTRS"  # where pandas keeps them in a parquet file's metadata
PREFIX = "computed with "
BETWEEN = "; "


@dataclass(frozen=True, order=True)
class Environment:
    """Versions, device and modes under which numbers were computed.

    device: its kind and name; matmul: torch's float32 matmul precision, "highest" unless TF32 (or
    less) is allowed; attention: the attention implementation; dtype: that of the weights.
    """

    torch: str
    transformers: str
    transformer_lens: str
    device: str
    matmul: str
    attention: str
    dtype: str

    @classmethod
    def from_fields(cls, stored: Mapping[str, Any]) -> Environment:
        """The environment that ``asdict`` gave; what an older record lacks is "unknown"."""
        return cls(**{f.name: str(stored.get(f.name, "unknown")) for f in fields(cls)})

    def text(self) -> str:
        """The environment in words, without the separator of several."""
        tf32 = "TF32 off" if self.matmul == "highest" else f"TF32 on (matmul {self.matmul})"
        words = (
            f"torch {self.torch}, transformers {self.transformers}, "
            f"transformer_lens {self.transformer_lens} on {self.device}, {tf32}, "
            f"{self.attention} attention, {self.dtype}"
        )
        return " ".join(words.replace(BETWEEN.strip(), ",").split())


def describe(environments: Iterable[Environment]) -> str:
    """One line for an artefact's comment, "" for none; more than one environment is said first.

    Precisions of the same environment are no mixture: they stand in one description.
    """
    return _line([environment.text() for environment in _merged(environments)])


def join_descriptions(lines: Iterable[str]) -> str:
    """One line for all that lines of ``describe`` name, each environment once."""
    return _line(sorted({text for line in lines for text in described(line)}))


def _line(texts: Sequence[str]) -> str:
    if len(texts) < 2:
        return "".join(PREFIX + text for text in texts)
    return f"{PREFIX}{len(texts)} environments: {BETWEEN.join(texts)}"


def described(line: str) -> list[str]:
    """The texts of a line that ``describe`` made, [] for any other line."""
    if not line.startswith(PREFIX):
        return []
    before, several, texts = line.removeprefix(PREFIX).partition(" environments: ")
    return texts.split(BETWEEN) if several and before.isdigit() else [line.removeprefix(PREFIX)]


def _merged(environments: Iterable[Environment]) -> list[Environment]:
    """Sorted, with the dtypes of otherwise equal ones joined."""
    dtypes: dict[Environment, list[str]] = {}
    for environment in sorted(set(environments)):
        dtypes.setdefault(replace(environment, dtype=""), []).append(environment.dtype)
    return [replace(place, dtype=" and ".join(names)) for place, names in dtypes.items()]


def with_environments(frame: pd.DataFrame, environments: Iterable[Environment]) -> pd.DataFrame:
    """The frame (its data shared) with these environments in its attrs, in place of any others."""
    marked = frame.copy(deep=False)
    marked.attrs = frame.attrs | {ATTRIBUTE: [asdict(e) for e in sorted(set(environments))]}
    return marked


def environments_of(frame: pd.DataFrame) -> set[Environment]:
    """The environments in a frame's attrs."""
    return {Environment.from_fields(stored) for stored in frame.attrs.get(ATTRIBUTE, ())}


def file_environments(paths: Iterable[str | Path]) -> set[Environment]:
    """The environments that parquet files name, without reading their rows; other files name none.

    Errors as pyarrow's where a parquet file is missing or damaged.
    """
    from pyarrow.parquet import read_schema

    found: set[Environment] = set()
    for path in paths:
        if Path(path).suffix == ".parquet":
            attrs = json.loads((read_schema(path).metadata or {}).get(PANDAS_ATTRS, b"{}"))
            found |= {Environment.from_fields(stored) for stored in attrs.get(ATTRIBUTE, ())}
    return found
