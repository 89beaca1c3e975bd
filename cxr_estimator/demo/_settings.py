"""What an app offers, and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Settings:
    """Settings of the app.

    Parameters
    ----------
    models : tuple of str
        Offered beside the bundled one: folders, and "user/model" or "user/model@revision" on the Hugging Face Hub.
    allow_hub : bool, default=True
        Whether visitors may name other models on the Hub. Never folders: those are the server's.
    device : str, default="auto"
    max_file_bytes, max_batch_bytes, max_batch_files : int
        Of one upload, and of what a batch holds once unpacked.
    max_stored_bytes : int
        Of all uploads and results together; while there are as many, no more uploads are taken.
    max_model_bytes : int
        Of a model that a visitor names.
    hub_models : int
        How many of those are kept in memory; two are needed to compare two of them.
    waiting : int
        Requests that may wait; more are told to come later.
    at_once : int
        Requests that compute at the same time.
    keep_seconds : int
        After which uploads and results are deleted.
    """

    models: tuple[str, ...] = ()
    allow_hub: bool = True
    device: str = "auto"
    max_file_bytes: int = 50 * MEBIBYTE
    max_batch_bytes: int = 500 * MEBIBYTE
    max_batch_files: int = 200
    max_stored_bytes: int = 4096 * MEBIBYTE
    max_model_bytes: int = 1024 * MEBIBYTE
    hub_models: int = 2
    waiting: int = 64
    at_once: int = 2
    keep_seconds: int = 1800
