"""The one exception of the model loaders."""

from __future__ import annotations


class ModelError(ValueError):
    """A model that cannot be had or used; the message is one line that says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
