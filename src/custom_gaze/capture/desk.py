"""What the capture page may do: look, begin, keep frames, one more round, finish.

No HTTP here, and no browser: routes.py is both's translator.
"""

import threading
import time
from dataclasses import dataclass
from typing import Literal

from custom_gaze.capture.folder import CaptureFolder
from custom_gaze.capture.looking import Seen, Watcher
from custom_gaze.capture.record import (
    MOST_ROUNDS,
    Camera,
    CapturedScreen,
    CaptureRecord,
    Target,
)
from custom_gaze.capture.targets import Pattern
from custom_gaze.common.errors import CustomGazeError, InputError

SILENT_S = 5.0  # after which a page that has not asked for anything is taken for closed
Verdict = Literal["kept", "closed eyes", "no face", "several faces", "still picture", "full"]


@dataclass(frozen=True)
class Options:
    """How a session is captured; `mirrored` as the app's mirror mode makes frames, which None
    stands for too where nothing was captured yet."""

    pattern: Pattern
    frames_per_target: int
    mirrored: bool | None


@dataclass(frozen=True)
class Outcome:
    """How the capture ended: as so many frames and targets of an imported session, or by an error,
    in words."""

    frames: int = 0
    targets: int = 0
    error: str = ""


class OtherTab(CustomGazeError):
    """Another page has the capture."""


class Desk:
    """One session's capture. Every method may be called from any thread."""

    def __init__(
        self, session: str, folder: CaptureFolder, watcher: Watcher, options: Options
    ) -> None:
        """Raises InputError where what was captured so far was mirrored otherwise."""
        self.session = session
        self.watcher = watcher
        self.outcome: Outcome | None = None
        self.finishing = threading.Event()  # the page has asked for the import
        self.told = threading.Event()  # the page knows the outcome
        self._folder = folder
        self._options = options
        self._tab, self._heard = "", 0.0
        self._turn = threading.RLock()
        record = folder.record
        if record is not None and options.mirrored not in (None, record.mirrored):
            was = "mirrored" if record.mirrored else "not mirrored"
            raise InputError(
                f"{session}: what was captured so far is {was}; go on without --mirror and "
                "--no-mirror, or capture under another name"
            )

    # ------------------------------------------------------------------ which page

    def claim(self, tab: str, force: bool) -> None:
        """Give the capture to the page `tab`; from another one that is open only by `force`.

        Raises:
            OtherTab: another page has it.
        """
        with self._turn:
            alive = time.monotonic() - self._heard < SILENT_S
            if self._tab not in ("", tab) and alive and not force:
                raise OtherTab("this capture is open in another tab")
            self._tab, self._heard = tab, time.monotonic()

    def heard(self, tab: str) -> None:
        """A page asks for something.

        Raises:
            OtherTab: the capture is another page's.
        """
        with self._turn:
            if tab != self._tab:
                raise OtherTab("the capture goes on in another tab")
            self._heard = time.monotonic()

    def release(self, tab: str) -> None:
        """A page is closed."""
        with self._turn:
            if tab == self._tab:
                self._tab = ""

    # ------------------------------------------------------------------ the capture

    @property
    def record(self) -> CaptureRecord | None:
        """What was captured so far."""
        return self._folder.record

    @property
    def last_screen(self) -> CapturedScreen | None:
        """The screen of the capture before, of whichever session."""
        return self._folder.last_screen

    @property
    def targets_planned(self) -> int:
        """How many targets a round has."""
        return self._options.pattern.number

    @property
    def mirrored(self) -> bool:
        """Whether frames are mirrored; what was begun goes on as it was begun."""
        return self.record.mirrored if self.record else self._options.mirrored is not False

    @property
    def frames_per_target(self) -> int:
        """How many frames each target gets; what was begun goes on as it was begun."""
        return self.record.frames_per_target if self.record else self._options.frames_per_target

    def begin(self, screen: CapturedScreen, camera: Camera) -> None:
        """Begin with this screen and camera, or go on with them.

        Raises:
            InputError: the screen is none that a session may have, or what was captured so far was
                before another one.
            CustomGazeError: the record cannot be written.
        """
        with self._turn:
            self._refuse_when_finishing()
            screen.screen().geometry()
            record = self.record
            if record is None:
                self._folder.begin(
                    CaptureRecord(
                        session=self.session,
                        cameras=(camera,),
                        mirrored=self.mirrored,
                        screen=screen,
                        pattern=self._options.pattern.words,
                        frames_per_target=self.frames_per_target,
                        targets=self._targets(screen, 1),
                    )
                )
                return
            was = record.screen
            if (was.width_px, was.height_px) != (screen.width_px, screen.height_px):
                raise InputError(
                    f"this session was begun on a screen of {was.width_px} × {was.height_px} "
                    f"pixels, this one has {screen.width_px} × {screen.height_px}: go on there "
                    "(browser zoom counts), or throw away what was captured"
                )
            self._folder.begin(record.with_camera(camera))

    def more(self) -> None:
        """Begin one more round, for a head that was moved.

        Raises:
            InputError: there were rounds enough, or none yet.
            CustomGazeError: the record cannot be written.
        """
        with self._turn:
            self._refuse_when_finishing()
            record = self._begun()
            if record.rounds == MOST_ROUNDS:
                raise InputError(f"{self.session}: {MOST_ROUNDS} rounds are enough")
            targets = (*record.targets, *self._targets(record.screen, record.rounds + 1))
            self._folder.begin(record.model_copy(update={"targets": targets}))

    def keep(self, content: bytes, index: int, insist: bool) -> tuple[Verdict, Seen]:
        """Look at a frame of the target `index`, and keep it where it can be used.

        `insist`: keep it though the eyes look closed, as they may when somebody looks down.

        Raises:
            InputError: it is no frame, or there is no such target.
            CustomGazeError: it cannot be written; nothing of it is left.
        """
        seen = self.watcher.look(content)
        with self._turn:
            self._refuse_when_finishing()
            record = self._begun()
            if not 0 <= index < len(record.targets):
                raise InputError(f"there is no target {index}")
            if len(record.targets[index].frames) >= record.frames_per_target:
                return "full", seen
            if seen.problem:
                return seen.problem, seen
            if seen.closed and not insist:
                return "closed eyes", seen
            if self._folder.holds(content):
                return "still picture", seen
            self._folder.keep(content, index)
            return "kept", seen

    def clear(self) -> None:
        """Throw away what was captured.

        Raises:
            CustomGazeError: it cannot be removed.
        """
        with self._turn:
            self._refuse_when_finishing()
            self._folder.clear()

    def finish(self) -> None:
        """Have what was captured imported, by whoever waits for `finishing`.

        Raises:
            InputError: there is nothing yet.
        """
        with self._turn:
            if not self._begun().frames:
                raise InputError(f"{self.session}: nothing was captured yet")
            self.finishing.set()

    def _targets(self, screen: CapturedScreen, round_number: int) -> tuple[Target, ...]:
        points = self._options.pattern.points_px(screen.width_px, screen.height_px, round_number)
        return tuple(Target(x_px=x, y_px=y, round=round_number) for x, y in points)

    def _begun(self) -> CaptureRecord:
        if self.record is None:
            raise InputError(f"{self.session}: the screen was not measured yet")
        return self.record

    def _refuse_when_finishing(self) -> None:
        if self.finishing.is_set():
            raise InputError(f"{self.session}: is being imported already")
