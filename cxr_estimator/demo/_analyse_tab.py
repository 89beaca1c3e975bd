"""The page that judges and explains one radiograph."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from cxr_estimator.demo._shared import MODEL_QUEUE, App, told
from cxr_estimator.demo._uploads import read_upload


def add(app: App) -> None:
    """Fill the tab."""
    upload = gr.File(label="Radiograph: PNG, JPEG, TIFF or DICOM", type="filepath")
    answer = gr.Markdown()

    @told
    def analyse(path: str | None) -> str:
        decoded = read_upload(None if path is None else Path(path))
        served = app.models.get(app.models.names[0])
        proba = served.clf.predict_proba([decoded.pixels])[0]
        return "\n".join(f"- {label}: {share:.1%}" for label, share in zip(served.clf.classes_, proba, strict=True))

    upload.upload(analyse, upload, answer, concurrency_id=MODEL_QUEUE, api_visibility="private")
