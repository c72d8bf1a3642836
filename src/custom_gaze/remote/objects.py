"""Moving the objects of DVC's cache to and from the far machine's store."""

import hashlib
import io
import shutil
from typing import IO

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import whole_file, write_bytes
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import FOLDER, Cache, files_in
from custom_gaze.remote.committed import Out
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.frames import pieces
from custom_gaze.remote.replies import Done, Lacking, Listed, Piece, not_asked

_MOST_LIST_BYTES = 1 << 27  # about 100 bytes a file
_PROTECTED = 0o444


def members_of(content: bytes) -> list[str]:
    """The objects that a folder's list names; ValueError where it is no such list."""
    return list(files_in(content).values())


def send_objects(connection: Connection, cache: Cache, store: str, names: list[str]) -> list[str]:
    """Send those of these objects that the store lacks; return their names.

    Raises:
        AgentError: its disk is full, or may not be written.
        NotAsked: the far machine asks for others: faces of another session, for instance.
        Lost: the connection was cut; what was taken whole need not be sent again.
    """
    lacking = connection.ask("lacking", Lacking, store=store, objects=names).lacking
    if not lacking:
        return []
    if others := set(lacking) - set(names):
        raise not_asked(connection.host, f"it asks for {others.pop()}, which this run does not use")
    connection.send({"do": "put", "store": store})
    for name in lacking:
        with cache.path(name).open("rb") as file:
            for chunk, last in pieces(file):
                connection.send({"object": name, "last": last}, chunk)
                if connection.waiting():  # nothing is said before the end but why it failed
                    connection.receive(Done)
    connection.send({"end": 1})
    connection.receive(Done)
    return lacking


def fetch_objects(connection: Connection, cache: Cache, store: str, outs: list[Out]) -> int:
    """Bring the objects of these outputs that are not here; return how many.

    Files come before the folders that list them, each verified and moved into place whole.

    Raises:
        CustomGazeError: the store lacks one, or the disk here is too small for them (nothing is
            fetched then), or one arrived damaged.
        NotAsked: it sent something else.
        Lost: the connection was cut; what has arrived whole is kept.
    """
    wanted = list(dict.fromkeys(out.md5 for out in outs))
    answer = connection.ask("listed", Listed, store=store, objects=wanted)
    _check_in_store(connection.host, wanted, answer, cache, outs)
    folders = _receive_folders(connection, cache, store, wanted, answer)
    files = [name for name in wanted if not name.endswith(FOLDER)]
    for name in wanted:
        if name.endswith(FOLDER):
            files += (
                members_of(folders[name]) if name in folders else list(cache.listed(name).values())
            )
    missing = [name for name in dict.fromkeys(files) if not cache.has(name)]
    _check_in_store(connection.host, missing, answer, cache, outs)
    _check_room(cache, sum(answer.sizes[name] for name in missing))
    if missing:
        connection.send({"do": "get", "store": store, "objects": missing})
        for name in missing:
            with whole_file(cache.path(name)) as temporary, temporary.open("wb") as file:
                _receive_object(connection, name, answer.sizes[name], file)
            cache.path(name).chmod(_PROTECTED)
        connection.receive(Done)
    for name, content in folders.items():
        write_bytes(cache.path(name), content)
        cache.path(name).chmod(_PROTECTED)
    return len(missing) + len(folders)


def _check_in_store(
    host: str, names: list[str], answer: Listed, cache: Cache, outs: list[Out]
) -> None:
    gone = {name for name in names if name not in answer.sizes and not cache.has(name)}
    if not gone:
        return
    broken = [out.path for out in outs if out.md5 in gone]
    what = ", ".join(printable(path, 100) for path in broken) or f"{len(gone)} files of folders"
    raise CustomGazeError(
        f"{host}: the store lacks {what}; nothing was changed here. "
        "Run it again there: custom-gaze remote train"
    )


def _check_room(cache: Cache, needed: int) -> None:
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    if needed > free:
        raise CustomGazeError(
            f"{cache.folder}: {needed} bytes would come, {free} are free; free some space"
        )


def _receive_folders(
    connection: Connection, cache: Cache, store: str, wanted: list[str], answer: Listed
) -> dict[str, bytes]:
    """The lists of folders that are not here yet: name → content, verified."""
    names = [name for name in wanted if name.endswith(FOLDER) and not cache.has(name)]
    if not names:
        return {}
    if sum(answer.sizes[name] for name in names) > _MOST_LIST_BYTES:
        raise not_asked(connection.host, f"lists of more than {_MOST_LIST_BYTES >> 20} MB")
    connection.send({"do": "get", "store": store, "objects": names})
    found = {}
    for name in names:
        content = io.BytesIO()
        _receive_object(connection, name, answer.sizes[name], content)
        found[name] = content.getvalue()
        try:
            members_of(found[name])
        except ValueError as error:
            raise not_asked(connection.host, f"{name}: {error}") from None
    connection.receive(Done)
    return found


def _receive_object(connection: Connection, name: str, size: int, file: IO[bytes]) -> None:
    digest = hashlib.md5()
    left = size
    while True:
        message, payload = connection.receive(Piece)
        left -= len(payload)
        if message.object != name or left < 0:
            raise not_asked(connection.host, f"not the {size} bytes of {name}")
        digest.update(payload)
        file.write(payload)
        if message.last:
            break
    if digest.hexdigest() != name.split(".")[0]:
        raise CustomGazeError(f"{connection.host}: {name} arrived damaged; try again")
