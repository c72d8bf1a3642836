"""The folder of a session that is being captured: one command at a time, each frame whole."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from custom_gaze.capture.record import (
    REMEDY,
    CapturedScreen,
    CaptureRecord,
    read_record,
    write_record,
)
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import write_bytes, write_json
from custom_gaze.common.stage_files import read_json
from custom_gaze.config.paths import Paths
from custom_gaze.data.sessions import FRAME_NAME

LAST_SCREEN = "screen.json"  # beside the folders: the next session is mostly before the same one


@contextmanager
def capturing(session: str, paths: Paths) -> Iterator[Path]:
    """The folder that `session` is captured into, for this command alone; it may not exist yet.

    Raises:
        InputError: another command captures this session.
        CustomGazeError: the lock cannot be written.
    """
    lock = FileLock(paths.captures / f"{session}.filelock")
    try:
        paths.captures.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{session}: another `custom-gaze capture {session}` is running; go on in its page, "
            "or end it with Ctrl-C first"
        ) from None
    except OSError as error:
        raise CustomGazeError(f"{lock.lock_file}: cannot be written ({error.strerror})") from None
    try:
        yield paths.captures / session
    finally:
        lock.release()


class CaptureFolder:
    """What was captured so far, on disk and as its record."""

    def __init__(self, path: Path) -> None:
        """Take up what is there: a frame without its JSON file, which a kill left, goes.

        Raises:
            InputError: the record is not what `write_record` writes.
        """
        self.path = path
        self.record = read_record(path)
        self.last_screen: CapturedScreen | None = None
        with suppress(InputError):  # none yet, or damaged: it is measured again
            self.last_screen = read_json(path.parent / LAST_SCREEN, CapturedScreen, REMEDY)
        self._last = 0
        self._hashes = set[str]()
        for image in path.glob("img_*.jpg"):
            found = FRAME_NAME.fullmatch(image.name)
            if found is None or not image.with_suffix(".json").exists():
                image.unlink()
                continue
            self._last = max(self._last, int(found[1]))
            self._hashes.add(hashlib.sha256(image.read_bytes()).hexdigest())

    def begin(self, record: CaptureRecord) -> None:
        """Write a record: the first one, or one of more rounds or cameras.

        Raises:
            CustomGazeError: it cannot be written.
        """
        write_record(self.path, record)
        write_json(self.path.parent / LAST_SCREEN, record.screen.model_dump())
        self.record, self.last_screen = record, record.screen

    def holds(self, content: bytes) -> bool:
        """Whether one of its frames has the same bytes: a camera that hangs."""
        return hashlib.sha256(content).hexdigest() in self._hashes

    def keep(self, content: bytes, index: int) -> None:
        """Keep a frame of the target `index`, taken now, as the app would have written it.

        Raises:
            CustomGazeError: it cannot be written; nothing of it is left.
        """
        assert self.record is not None
        number = max(time.time_ns() // 1_000_000, self._last + 1)  # a clock may be set back
        target = self.record.targets[index]
        image = self.path / f"img_{number}.jpg"
        after = self.record.with_frame(index, number)
        try:
            write_bytes(image, content)
            write_json(
                image.with_suffix(".json"),
                {
                    "timestamp": number,
                    "screen_x": target.x_px,
                    "screen_y": target.y_px,
                    "inference": None,
                    "moondream_result": None,
                },
            )
            write_record(self.path, after)
        except BaseException:
            image.unlink(missing_ok=True)
            image.with_suffix(".json").unlink(missing_ok=True)
            raise
        self.record, self._last = after, number
        self._hashes.add(hashlib.sha256(content).hexdigest())

    def clear(self) -> None:
        """Throw away all of it.

        Raises:
            CustomGazeError: it cannot be removed.
        """
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
        except OSError as error:
            raise CustomGazeError(f"{self.path}: cannot be removed ({error.strerror})") from None
        self.record, self._last, self._hashes = None, 0, set()
