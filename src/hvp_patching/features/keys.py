"""Keys of stored work that belongs to a model rather than to a prompt: texts and training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class WorkKey:
    """What the work depends on; see store.Key."""

    weights: str
    dtype: str
    seed: int

    def fields(self) -> dict[str, Any]:
        """The key as JSON values."""
        return asdict(self) | {"work": type(self).__name__}

    def digest(self) -> str:
        """Name of the entry: sha256 of the key, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.fields(), sort_keys=True).encode()).hexdigest()
