"""What models that can be saved and shared have in common: a folder, a repository on the Hugging Face Hub."""

from __future__ import annotations

import os
import tempfile
import warnings
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils.validation import check_is_fitted

from cxr_estimator._validation import check_choice, check_path, invalid, wrong_type
from cxr_estimator.card import CARD_NAME, ModelCard
from cxr_estimator.checksums import SUMS_NAME, differing, read_sums, verify, write_sums
from cxr_estimator.errors import DataError, EditedFilesWarning, InvalidParameterError, ModelFolderError
from cxr_estimator.serialization import WEIGHT_TYPES, WEIGHTS_NAME, writable_folder, write_file

if TYPE_CHECKING:
    from cxr_estimator.hub import Pushed


class Sharing(ABC):
    """Saving, loading and sharing, for a fitted model that can write itself to a folder and be read from one."""

    card_: ModelCard | None

    @abstractmethod
    def _write(self, folder: Path, dtype: str | None, card: ModelCard) -> dict[str, str]:
        """Write the files of `_file_names` into a folder that exists, and return their SHA-256 by name."""

    @abstractmethod
    def _file_names(self) -> list[str]:
        """Return the names of the files without which the model cannot be read, relative to its folder."""

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path, device: str) -> Self:
        """Read what `_write` wrote, or raise ModelFolderError."""

    @classmethod
    @abstractmethod
    def _bundled(cls) -> Path:
        """Return the folder of the model of this kind that comes with the package, or raise."""

    @classmethod
    def _read_other(cls, folder: Path, device: str) -> Self | None:
        """Read a model that another library saved; None for any other folder."""
        return None

    def save(self, folder: str | Path, *, dtype: str | None = None, card: ModelCard | None = None) -> Path:
        """Write the model, its card and their checksums into `folder`, which is made if need be; return it.

        Parameters
        ----------
        folder : path
            Gets config.json, model.safetensors, README.md (the model card) with its pictures, and SHA256SUMS. A README
            that somebody edited is kept, with an `EditedFilesWarning`; other files are left alone.
        dtype : {"float32", "float16"}, optional
            How weights are stored. "float16" halves the file and moves probabilities by about 0.001. Default: as they
            were when the model was loaded, else "float32".
        card : ModelCard, optional
            What its author adds to the card. Its texts stay with the model; what was measured belongs to the model as
            it is now, and is left out of the next card. Default: those texts, and what the model itself knows.

        Raises
        ------
        DataError
            The folder cannot be written to, holds a model of another kind, or weights are too large for float16.
        """
        check_is_fitted(self, "classes_")
        if dtype is not None:
            check_choice("dtype", dtype, WEIGHT_TYPES, caller="save")
        card = self._card(card, caller="save")
        described = card.files(self)
        folder = writable_folder(check_path("folder", folder, caller="save"))
        _check_kind(folder, self._file_names())
        before = _sums_before(folder)
        if _is_edited(folder, CARD_NAME, before):
            told = f"{folder / CARD_NAME} was edited by hand and is kept; delete it to have it written anew."
            warnings.warn(told, EditedFilesWarning, stacklevel=2)
            del described[CARD_NAME]
        # all of it beside what is there, so that a full disk or a crash while writing costs nothing
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving_") as place:
            new = Path(place)
            sums = self._write(new, dtype, card)
            for name, content in described.items():
                sums[name] = write_file(writable_folder((new / name).parent) / Path(name).name, content)
            write_sums(new, sums)
            for name in [*sums, SUMS_NAME]:
                writable_folder((folder / name).parent)
                os.replace(new / name, folder / name)
        _remove(folder, {name: digest for name, digest in before.items() if name not in {*sums, CARD_NAME}})
        return folder

    def _card(self, card: ModelCard | None, *, caller: str) -> ModelCard:
        """Return the card to write: the given one, else that of the texts which the model keeps."""
        if card is None:
            return self.card_ or ModelCard()
        if not isinstance(card, ModelCard):
            raise wrong_type("card", caller, "a ModelCard", card)
        return card

    def save_pretrained(self, folder: str | Path, *, dtype: str | None = None, card: ModelCard | None = None) -> Path:
        """Do what `save` does, under the name that it has on the Hugging Face Hub."""
        return self.save(folder, dtype=dtype, card=card)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a folder that `save` wrote. Nothing is unpickled or executed; the network is in eval mode.

        Every file is compared with SHA256SUMS: a model that is not what was saved is refused; a card or picture that
        was edited since is an `EditedFilesWarning`.

        Raises
        ------
        ModelFolderError
            A file is missing, damaged, of another version or not one of ours; the message names it.
        """
        folder = check_path("folder", folder, caller="load")
        model, edited = cls._load(folder, device)
        _warn_of_edited(folder, edited)
        return model

    @classmethod
    def _load(cls, folder: Path, device: str) -> tuple[Self, list[str]]:
        """Return the model of a folder, and the names of files beside it that are not what was saved."""
        other = cls._read_other(folder, device)
        if other is not None:
            return other, []
        model = cls._read(folder, device)
        return model, verify(folder, model._file_names())

    @classmethod
    def from_pretrained(
        cls,
        repo_id_or_path: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str = "auto",
    ) -> Self:
        """Load the model that comes with the package, one from a folder, or one from the Hugging Face Hub.

        Without an argument it is the bundled classifier of pneumonia in radiographs of children (docs/pretrained.md),
        which needs no network. No ensemble is bundled.

        `CXRClassifier` also reads what timm shares (`timm.models.push_to_hf_hub`, with model.safetensors): it prepares
        images as timm does and gives the network's own probabilities, of one class per image. Classes are the
        `label_names`, or 0 to K - 1 where the repository names none.

        Parameters
        ----------
        repo_id_or_path : str or path, optional
            A folder that exists, or "user/model". Default: the bundled model.
        revision : str, optional
            Branch, tag or commit of a repository; a commit pins the model for good. Default: the main branch.
        token : str or bool, optional
            Default: that of `hf auth login` or HF_TOKEN. False: none. Like the next two only for a repository: without
            effect where no request is made.
        cache_dir : path, optional
            Default: the cache of huggingface_hub.
        local_files_only : bool, default=False
            Use what the cache holds, without any request.
        device : str, default="auto"

        Raises
        ------
        HubError
            The Hub cannot be reached or refuses, or there is no such repository, revision or file.
        ModelFolderError
            It is neither a folder nor a name on the Hub; or what it holds is missing, damaged, of another version or
            not one of ours. Damaged downloads are dropped from the cache and fetched once more before that.
        """
        if repo_id_or_path is None:
            repo_id_or_path = cls._bundled()
        if check_path("repo_id_or_path", repo_id_or_path, caller="from_pretrained").is_dir():
            if revision is not None:
                raise invalid("revision", "from_pretrained", "None for a folder or the bundled model", revision)
            return cls.load(repo_id_or_path, device=device)

        from cxr_estimator import hub

        try:
            repo_id = hub.check_repo_id(str(repo_id_or_path), caller="from_pretrained")
        except InvalidParameterError as error:
            told = "there is no such model folder, and models on the Hub are named user/model."
            raise ModelFolderError(f"{str(repo_id_or_path)!r:.200}: {told}") from error
        for again in (True, False):
            folder = hub.fetch(
                repo_id,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
            )
            try:
                model, edited = cls._load(folder, device)
            except ModelFolderError:
                if not hub.discard_damaged(folder) or not again:  # deleted in any case, so that the cache stays sound
                    raise
            else:
                if not edited or not hub.discard_damaged(folder) or not again:
                    break
        _warn_of_edited(folder, edited)
        return model

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        dtype: str | None = None,
        card: ModelCard | None = None,
    ) -> Pushed:
        """Share the model as one commit to a repository on the Hugging Face Hub, which is made if need be.

        Unchanged files are not sent again; a push that raced with another is refused instead of overwriting it.

        Parameters
        ----------
        repo_id : str
            "user/model" or "organisation/model".
        private : bool, optional
            Whether a new repository is private. Default: as the account has it.
        token : str, optional
            One with write access. Default: that of `hf auth login` or HF_TOKEN.
        branch : str, optional
            Made if need be. Default: main.
        commit_message : str, optional
        create_pr : bool, default=False
            Propose the change as a pull request instead of making it.
        dtype, card
            As for `save`.

        Returns
        -------
        Pushed
            The commit and its address.

        Raises
        ------
        HubError
            No or a read-only token, no such account, no network, or somebody else pushed at the same time.
        """
        from cxr_estimator import hub

        check_is_fitted(self, "classes_")
        hub.check_repo_id(repo_id, caller="push_to_hub")
        card = replace(self._card(card, caller="push_to_hub"), repo_id=repo_id)
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, dtype=dtype, card=card)
            return hub.push(
                Path(folder),
                repo_id,
                private=private,
                token=token,
                branch=branch,
                commit_message=commit_message,
                create_pr=create_pr,
            )


def _warn_of_edited(folder: Path, edited: list[str]) -> None:
    if edited:
        told = f"{folder}: {', '.join(edited)} changed since the model was saved, or missing; the model is whole."
        warnings.warn(told, EditedFilesWarning, stacklevel=3)


def _check_kind(folder: Path, names: list[str]) -> None:
    """Raise if the folder holds what does not belong to a model of these files: a single one and an ensemble mix."""
    own = {Path(name).parts[0] for name in names}
    for place, what in ((WEIGHTS_NAME, "a single model"), ("member_0", "an ensemble")):
        if place not in own and (folder / place).exists():
            raise DataError(f"{folder}: holds {what}; save in a folder of its own.")


def _sums_before(folder: Path) -> dict[str, str]:
    try:
        return read_sums(folder) if (folder / SUMS_NAME).exists() else {}
    except ModelFolderError:  # nothing is known of what lies there, so nothing of it is removed
        return {}


def _is_edited(folder: Path, name: str, before: dict[str, Any]) -> bool:
    return (folder / name).exists() and bool(differing(folder, {name: before.get(name, "")}))


def _remove(folder: Path, sums: dict[str, str]) -> None:
    """Delete files that an earlier saving left and that are as it left them, and folders that become empty."""
    for name in sums.keys() - set(differing(folder, sums)):
        (folder / name).unlink(missing_ok=True)
        parent = (folder / name).parent
        if parent != folder and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
