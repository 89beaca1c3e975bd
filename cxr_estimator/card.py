"""The model card: README.md of a model folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CARD_NAME = "README.md"


@dataclass(frozen=True)
class ModelCard:
    """What an author adds to the card of a model.

    Parameters
    ----------
    title : str, optional
    repo_id : str, optional
        Where the model is shared.
    """

    title: str | None = None
    repo_id: str | None = None

    def files(self, clf: Any) -> dict[str, bytes]:
        """Return the card and what it shows, by name."""
        title = self.title or f"Classifier of chest radiographs: {', '.join(map(str, clf.classes_))}"
        head = "---\nlibrary_name: cxr_estimator\n---\n"
        text = f"{head}\n# {title}\n\nResearch and education only, not a medical device.\n"
        return {CARD_NAME: text.encode()}
