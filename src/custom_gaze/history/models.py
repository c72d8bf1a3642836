"""Models as files: taken from DVC's cache by the hash that a revision names, and held to it.

Nothing is checked out and no experiment applied. A file in the cache may have come from another
machine, so it is read as any ONNX file of a user's.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.temporary import temporary_place
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, regular_file
from custom_gaze.config.paths import Paths
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.history.kept import Kept
from custom_gaze.models.onnx_files import read_onnx
from custom_gaze.models.onnx_metadata import PREFIX, ModelFacts, facts_in, props_of

_MOST_SAID = 64 << 10  # characters of metadata; ours has 3,000
_OPEN = 0o644  # the cache's files may not be written, which the app's have to be


class Card(BaseModel):
    """What a model file says of itself, kept so that a hundred of them need not be read again."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    props: dict[str, str]


@dataclass(frozen=True)
class ModelFile:
    """A model that is here: its file, and what it says of itself."""

    path: Path
    facts: ModelFacts


class Models:
    """The models of one project."""

    def __init__(self, paths: Paths) -> None:
        self._cache = Cache(paths.root)
        self._cards = Kept(Card, paths)

    def cached(self, md5: str) -> ModelFile:
        """The model of this MD5.

        Raises:
            InputError: DVC's cache does not have it, or has something else in its place.
        """
        path = self._cache.path(md5)
        if not path.is_file():
            raise InputError("the model is not in DVC's cache; `dvc pull` may bring it")
        card = self._cards.get(md5)
        if card is None:
            _check_md5(path, md5)
            card = self._cards.put(md5, _card(path))
        return ModelFile(path, facts_in(card.props, card.sha256))

    def file(self, path: Path, sha256: str) -> ModelFile:
        """The model in a file that should have this SHA-256.

        Raises:
            InputError: it is missing, no ONNX, or has another.
        """
        regular_file(path, MOST_MODEL_BYTES)
        if sha256_of(path) != sha256:
            raise InputError(f"{path}: is not the model that was recorded, its SHA-256 differs")
        card = self._cards.get(sha256) or self._cards.put(sha256, _card(path))
        return ModelFile(path, facts_in(card.props, card.sha256))

    def index(self, md5: str) -> Path | None:
        """The index.csv of this MD5; None where it is not here."""
        path = self._cache.path(md5)
        return path if path.is_file() else None


@contextmanager
def copied(model: ModelFile, paths: Paths) -> Iterator[Path]:
    """A copy of a model that is certain to be it, with the rights of a file of one's own.

    Raises:
        InputError: the file has changed.
        OSError: it cannot be copied.
    """
    with temporary_place(paths.root / paths.model.name) as place:
        copy = place / paths.model.name
        shutil.copyfile(model.path, copy)
        copy.chmod(_OPEN)
        if sha256_of(copy) != model.facts.sha256:
            raise InputError(f"{model.path}: damaged; remove it and `dvc pull`")
        yield copy


def _card(path: Path) -> Card:
    proto, sha256 = read_onnx(path)
    props = {key: said for key, said in props_of(proto).items() if key.startswith(PREFIX)}
    if sum(len(said) for said in props.values()) > _MOST_SAID:
        props = {}
    return Card(sha256=sha256, props=props)


def _check_md5(path: Path, md5: str) -> None:
    digest = hashlib.md5()
    regular_file(path, MOST_MODEL_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        raise InputError(f"{path}: damaged, it is not what its name says; remove it and `dvc pull`")
