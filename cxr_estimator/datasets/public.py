"""The public chest radiographs of Kermany et al., from the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cxr_estimator._optional import needed
from cxr_estimator._progress import check_callback
from cxr_estimator._validation import check_choice, check_path
from cxr_estimator.datasets._image_parquet import unpack
from cxr_estimator.datasets.folder import ImageDataset, load_image_folder
from cxr_estimator.datasets.patients import KAGGLE_PATIENT_PATTERN, patient_ids
from cxr_estimator.errors import DataError, HubError, PatientLeakWarning
from cxr_estimator.serialization import atomic_write, read_json, writable_folder

_REPOSITORY = "hf-vision/chest-xray-pneumonia"
_CALLER = "fetch_chest_xray"
_CLASSES = {"NORMAL", "PNEUMONIA"}
_SPLITS = ("train", "validation", "test")
_SHARD = re.compile(r"data/(train|validation|test)-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.parquet")
_OTHER_WAY = (
    "Without the Hub: get the images from Mendeley Data (doi:10.17632/rscbjbr9sj), and use load_image_folder on them."
)


def fetch_chest_xray(
    split: str = "train",
    *,
    folder: str | Path | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    progress: Callable[[float, float], Any] | None = None,
) -> ImageDataset:
    """Download paediatric chest radiographs, NORMAL and PNEUMONIA, with the splits of their authors.

    The images are those of Kermany, Zhang and Goldbaum (CC BY 4.0: name them where you show or share the images), from
    the copy `hf-vision/chest-xray-pneumonia`, about 1.2 GB. Each part is downloaded once and unpacked into image files;
    a run that was killed goes on where it was, and one that is finished needs no network any more. Needs pyarrow:
    `pip install 'cxr_estimator[data]'`.

    Parameters
    ----------
    split : {"train", "validation", "test", "all"}, default="train"
        5,216, 16 and 624 images. The test part is drawn differently and is never given unless it is asked for;
        "all" mixes it with the others.
    folder : path, optional
        Gets `SPLIT/CLASS/name.jpeg`; read it again with `load_image_folder`. Default:
        `cxr_estimator/chest-xray-pneumonia` beside the cache of the Hub's client.
    revision : str, optional
        Branch, tag or commit of the copy. Default: what the folder holds, else the main branch.
    token : str or bool, optional
        Default: that of `hf auth login` or HF_TOKEN. False: none.
    cache_dir : path, optional
        Where downloads are kept. Default: the cache of huggingface_hub.
    local_files_only : bool, default=False
        Make no request.
    progress : callable, optional
        Called as `progress(done, total)`, in files of the copy and fractions of one. What it raises stops the work.

    Returns
    -------
    ImageDataset
        X (N,) str paths; y (N,) str; groups (N,) str, or None with a `PatientLeakWarning` where the copy has lost the
        file names, which tell the patients.

    Raises
    ------
    HubError
        The Hub cannot be reached, and what is missing is not in the cache.
    DataError
        A downloaded file is not what it should be, or `folder` holds something else.
    MissingPackageError
        pyarrow is not installed.

    References
    ----------
    Kermany et al. (2018), Identifying medical diagnoses and treatable diseases by image-based deep learning, Cell
    172(5), doi:10.1016/j.cell.2018.02.010; data: doi:10.17632/rscbjbr9sj
    """
    check_choice("split", split, (*_SPLITS, "all"), caller=_CALLER)
    check_choice("local_files_only", local_files_only, (True, False), caller=_CALLER)
    check_callback(progress, caller=_CALLER)
    if cache_dir is not None:
        check_path("cache_dir", cache_dir, caller=_CALLER)
    root = _default_folder() if folder is None else check_path("folder", folder, caller=_CALLER)
    done = _Done.read(root)
    wanted = _SPLITS if split == "all" else (split,)
    if not (done.is_of(revision) and all(done.is_whole(root, one) for one in wanted)):
        needed("pyarrow", "pyarrow", extra="data", caller=_CALLER)  # fails now rather than after the download
        try:
            source = _Source(done.commit if revision is None else revision, token, cache_dir, local_files_only)
            _fetch(source, root, done._replace(asked=revision or done.asked), wanted, progress)
        except HubError as error:
            raise HubError(f"{error} {_OTHER_WAY}") from error
    return _listed(root, split)


def _advance(progress: Callable[[float, float], Any] | None, position: int, total: int, share: float) -> None:
    if progress is not None:
        progress(position + share, total)


def _default_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).parent / "cxr_estimator" / "chest-xray-pneumonia"


class _Done(NamedTuple):
    """What `folder/.fetched.json` tells: the commit, and how many images each file of it that is unpacked held."""

    commit: str | None
    asked: str | None  # the revision that led to it
    shards: dict[str, int]

    @classmethod
    def read(cls, root: Path) -> _Done:
        path = root / ".fetched.json"
        if not path.exists():
            if root.is_dir() and any(root.iterdir()):
                raise DataError(
                    f"{root}: holds files that {_CALLER} did not write. Choose an empty folder, or read this one with "
                    "load_image_folder."
                )
            return cls(None, None, {})
        content = read_json(path)
        try:
            shards = {str(name): int(number) for name, number in content["shards"].items()}
            return cls(content["commit"], content["asked"], shards)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: is damaged; delete {root} to fetch the images again.") from error

    def write(self, root: Path) -> None:
        with atomic_write(writable_folder(root) / ".fetched.json") as file:
            file.write(json.dumps(self._asdict()).encode())

    def is_of(self, revision: str | None) -> bool:
        return self.commit is not None and revision in (None, self.commit, self.asked)

    def is_whole(self, root: Path, split: str) -> bool:
        """Tell whether all files of a split are unpacked; raise where images are missing all the same."""
        if not _is_complete(self.shards, split):
            return False
        expected = sum(number for name, number in self.shards.items() if _split_of(name) == split)
        found = sum(len(names) for _, _, names in os.walk(root / split))
        if found != expected:
            raise DataError(
                f"{root / split}: holds {found} files instead of the {expected} images of the copy. Files were added "
                "or deleted, or two images have one name; delete the folder to fetch them again."
            )
        return True


def _split_of(name: str) -> str | None:
    found = _SHARD.fullmatch(name)
    return found and found[1]


def _is_complete(names: Any, split: str) -> bool:
    """Tell whether the names (`data/SPLIT-00000-of-00002...`) are those of all files of a split."""
    found = [match for match in map(_SHARD.fullmatch, names) if match and match[1] == split]
    return bool(found) and sorted(int(match[2]) for match in found) == list(range(int(found[0][3])))


class _Source:
    """The copy on the Hub, or what the client's cache has of it."""

    def __init__(
        self, revision: str | None, token: str | bool | None, cache_dir: str | Path | None, local_files_only: bool
    ) -> None:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        from cxr_estimator.hub._errors import check_revision, check_token, hub_errors
        from cxr_estimator.hub._remote import no_answer

        check_revision("revision", revision, caller=_CALLER)
        check_token(token, caller=_CALLER)
        silent: Exception | None = None
        with hub_errors(_REPOSITORY, revision):
            if not local_files_only:
                silent = no_answer(HfApi(token=token), _REPOSITORY, revision, repo_type="dataset")
            local = local_files_only or silent is not None
            self._options: dict[str, Any] = {
                "token": token, "cache_dir": cache_dir, "repo_type": "dataset", "local_files_only": local
            }  # fmt: skip
            try:  # one small file, so that the cache knows later which commit the revision is
                known = snapshot_download(_REPOSITORY, revision=revision, allow_patterns="README.md", **self._options)
            except LocalEntryNotFoundError as error:
                raise error from silent or error.__cause__
            self.commit = Path(known).name
            names = [path.relative_to(known).as_posix() for path in Path(known).rglob("*.parquet")]
            if not local:
                names = HfApi(token=token).list_repo_files(_REPOSITORY, revision=self.commit, repo_type="dataset")
        self.shards = sorted(name for name in names if _SHARD.fullmatch(name))

    def download(self, name: str) -> Path:
        """Return the path of a file in the client's cache, whose content is what the Hub named; at the second try."""
        from huggingface_hub import hf_hub_download

        from cxr_estimator.hub._errors import hub_errors
        from cxr_estimator.hub._fetching import discard_if_damaged

        with hub_errors(_REPOSITORY, self.commit):
            for _ in range(2):
                path = Path(hf_hub_download(_REPOSITORY, name, revision=self.commit, **self._options))
                if not discard_if_damaged(path):
                    return path
        raise HubError(f"{_REPOSITORY}: {name} was damaged on its way, twice; try again.")


def _fetch(
    source: _Source, root: Path, done: _Done, splits: tuple[str, ...], progress: Callable[[float, float], Any] | None
) -> None:
    if done.commit not in (None, source.commit):
        raise DataError(
            f"{root}: holds revision {done.commit} of the copy, not {source.commit}. Choose another folder for it."
        )
    missing = [split for split in splits if not _is_complete(source.shards, split)]
    if missing:
        raise HubError(f"{_REPOSITORY}: files of the {', '.join(missing)} split are missing (commit {source.commit}).")
    names = [name for name in source.shards if _split_of(name) in splits]
    done = done._replace(commit=source.commit)
    done.write(root)
    for position, name in enumerate(names):
        if name not in done.shards:
            split = str(_split_of(name))
            done.shards[name] = unpack(
                source.download(name),
                root / split,
                _CLASSES,
                prefix=Path(name).stem[: len(split) + 6],  # such as "train-00000"
                caller=_CALLER,
                progress=partial(_advance, progress, position, len(names)),
            )
            done.write(root)
    for split in splits:
        done.is_whole(root, split)


def _listed(root: Path, split: str) -> ImageDataset:
    """Return the unpacked images, with their patients where the names tell them."""
    data = load_image_folder(root, split={"validation": "val"}.get(split, split), patient_pattern=None)
    names = [os.path.basename(path) for path in data.X]
    if all(re.search(KAGGLE_PATIENT_PATTERN, name) for name in names):
        return data._replace(groups=patient_ids(names, KAGGLE_PATIENT_PATTERN, caller=_CALLER))
    warnings.warn(
        f"{_CALLER}: the copy has lost the file names, which tell the patients, so groups is None. Images of one "
        "patient may stand on both sides of a random split; the splits of the authors are not affected.",
        PatientLeakWarning,
        stacklevel=3,
    )
    return data
