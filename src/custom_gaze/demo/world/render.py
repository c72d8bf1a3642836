"""One image of a person: a given gaze, head pose and framing, under a session's conditions."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo.seeds import STREAM_ROOM, stream
from custom_gaze.demo.world import eyes, skin
from custom_gaze.demo.world.arrays import Floats, Image, blurred, floats, image, resized, sample
from custom_gaze.demo.world.camera import as_jpeg, develop
from custom_gaze.demo.world.conditions import FRAME_SIZE_PX, Conditions, Moment
from custom_gaze.demo.world.eyeball import Look
from custom_gaze.demo.world.glasses import draw_glasses, lay_over
from custom_gaze.demo.world.head import HeadPose, relief_at, turned, untwisted
from custom_gaze.demo.world.person import Person
from custom_gaze.demo.world.room import draw_room

FINEST_PX_PER_MM, COARSEST_PX_PER_MM = 2.3, 0.4  # of the person's picture
SUPERSAMPLED_BELOW_PX_PER_MM = 0.8  # eyes on a coarser picture are drawn twice as fine
FACE_BOX_MM = ((-65.0, -55.0), (65.0, 106.0))  # what RFB-320 boxes, on a head facing it
WARP_STEP_MM = 6.0  # the head's turn is computed on this grid and interpolated
SHADE_STEP_MM = 5.0
SKIN_LEVEL = 182.0  # of the photograph's skin around an eye in full light
PUPIL_MM = (1.0, 3.4)  # smallest and largest radius, whatever person and light say


@dataclass(frozen=True)
class Framing:
    """An image's size (width, height) and where the middle between the eyes lies in it, pixels.

    The place is that of a head facing the camera: one that turns moves a little about its neck.
    """

    size_px: tuple[int, int]
    center_px: tuple[float, float]


@dataclass(frozen=True)
class _EyePatch:
    """What does not change from image to image around one eye."""

    box: tuple[slice, slice]
    grid: Floats
    skin: Floats
    shade: Floats
    plain: Floats  # the finished picture without an eye, for the soft border
    window: Floats
    level: float  # the photograph's light here, 1 where it is full
    px_per_mm: float  # of the grid


def scale_of_face(face_px: float) -> float:
    """Pixels per millimetre at which the longer side of a face's box has `face_px`."""
    return face_px / float(np.max(np.subtract(FACE_BOX_MM[1], FACE_BOX_MM[0])))


class Scene:
    """A person under a session's conditions, ready to be drawn with any gaze and head pose.

    Making one costs several times as much as drawing an image of it, so one is kept for many
    images. It holds buffers: threads need one each. `scale` is pixels per millimetre at the face,
    by default what the conditions' distance gives in a frame of 1280 pixels; `whole` draws
    shoulders and all, else only what a crop around the face shows.
    """

    def __init__(
        self, person: Person, conditions: Conditions, scale: float | None = None, whole: bool = True
    ) -> None:
        self.person = person
        self.conditions = conditions
        self.scale = conditions.scale if scale is None else scale
        self.px_per_mm = float(np.clip(1.1 * self.scale, COARSEST_PX_PER_MM, FINEST_PX_PER_MM))
        self._blur_sigma = conditions.lens_sigma_px * self.px_per_mm / self.scale
        picture = skin.make_picture(person, self.px_per_mm, whole)
        self._low_mm = np.array(picture.low_mm)
        shade = self._shade(picture.alpha.shape)
        opacity = np.full((*picture.alpha.shape, 1), 255, np.float32)
        layers = np.concatenate([picture.rgb * shade, opacity], -1) * picture.alpha[..., None]
        plain = blurred(layers, self._blur_sigma)
        self._layer = image(np.clip(plain, 0, 255).astype(np.uint8))
        self._patches = [
            self._patch(picture, shade, plain, middle) for middle in eyes.eye_middles_mm(person)
        ]
        self._glasses = self._make_glasses(float(shade.mean()))
        self._rooms: dict[tuple[int, int], Image] = {}

    def _shade(self, size: tuple[int, ...]) -> Floats:
        """Light and shade on the head's relief, as a factor (rows, columns, 3)."""
        conditions = self.conditions
        size_mm = (size[1] / self.px_per_mm, size[0] / self.px_per_mm)
        columns, rows = (max(2, round(side / SHADE_STEP_MM)) for side in size_mm)
        x = self._low_mm[0] + (np.arange(columns) + 0.5) * size_mm[0] / columns
        y = self._low_mm[1] + (np.arange(rows) + 0.5) * size_mm[1] / rows
        surface = relief_at(floats(np.stack(np.meshgrid(x, y), -1)))
        normal = np.concatenate([-surface[..., 1:], np.ones_like(surface[..., :1])], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        light = floats(conditions.pose.matrix().T @ np.array(conditions.light))
        facing = np.clip(normal @ light, 0, 1)[..., None]
        share = conditions.light_share
        color = 1 + facing * (floats(conditions.light_color) - 1)
        return resized((1 - share + share * facing / 0.8) * color, (size[1], size[0]))

    def _make_glasses(self, light: float) -> Image | None:
        if self.person.glasses is None:
            return None
        layer = draw_glasses(self.person, self.person.glasses, self.px_per_mm)
        layer[..., :3] *= light
        return np.clip(np.round(blurred(layer, self._blur_sigma)), 0, 255).astype(np.uint8)

    def _patch(
        self, picture: skin.Picture, shade: Floats, plain: Floats, middle_mm: NDArray[np.float64]
    ) -> _EyePatch:
        px_per_mm = self.px_per_mm
        corner = (middle_mm + eyes.PATCH_LOW_MM - self._low_mm) * px_per_mm
        left, top = np.round(corner).astype(int)
        grid = eyes.patch_grid(px_per_mm, (np.array([left, top]) - corner) / px_per_mm)
        rows, columns = grid.shape[:2]
        finer = px_per_mm < SUPERSAMPLED_BELOW_PX_PER_MM
        if finer:
            grid = _finer(grid)
        box = np.s_[top : top + rows, left : left + columns]
        own = picture.rgb[box]
        return _EyePatch(
            box=box,
            grid=grid,
            skin=resized(own, (grid.shape[1], grid.shape[0])),
            shade=shade[box],
            plain=plain[box][..., :3].copy(),
            window=_window(rows, columns),
            level=_level(own, self.person),
            px_per_mm=px_per_mm * (2 if finer else 1),
        )

    def image(
        self,
        gaze_deg: tuple[float, float],
        pose: HeadPose,
        framing: Framing,
        closed: float = 0.0,
    ) -> Image:
        """The person looking along `gaze_deg` (yaw, pitch), (height, width, 3) RGB uint8.

        What light and lens do is in the picture; what the camera adds (`camera.develop`) is not.
        The eyes turn as far as `gaze_deg` and `pose` demand: more than 35 degrees between the two
        look unnatural. The pose's yaw may reach 40 degrees, its pitch 30. `closed` is 0 for open
        eyes, 1 for shut ones.
        """
        self._draw_eyes(gaze_deg, pose, closed)
        layer = image(sample(self._layer, self._picture_px(pose, framing)))
        opacity = image(cv2.cvtColor(layer[..., 3], cv2.COLOR_GRAY2RGB))
        behind = cv2.multiply(self._room(framing.size_px), 255 - opacity, scale=1 / 255)
        shown = image(cv2.add(cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), behind))
        if self._glasses is not None:
            lay_over(shown, self._glasses, self.px_per_mm, pose, self.scale, framing.center_px)
        return shown

    def frame(self, moment: Moment) -> Image:
        """A webcam's frame of a moment, before its JPEG, (720, 1280, 3) RGB uint8."""
        framing = self.framing(moment)
        raw = self.image(moment.gaze_deg, moment.pose, framing, moment.closed)
        rng = np.random.default_rng(moment.noise_seed)
        return develop(raw, self.conditions, rng, moment.motion_px)

    def crop(
        self,
        gaze_deg: tuple[float, float],
        pose: HeadPose,
        size_px: int,
        rng: np.random.Generator,
        *,
        margin: float = 1.5,
    ) -> Image:
        """The square around the face as a network gets it, (size_px, size_px, 3) RGB uint8.

        Drawn as large as `scale` makes the face, developed, compressed as JPEG, and only then
        brought to `size_px`: a small `scale` gives the enlarged crop of a small face.
        """
        raw = self.image(gaze_deg, pose, self.crop_framing(pose, margin))
        photo = develop(raw, self.conditions, rng)
        content = np.frombuffer(as_jpeg(photo, self.conditions.jpeg_quality), np.uint8)
        photo = image(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB))
        way = cv2.INTER_AREA if photo.shape[0] > size_px else cv2.INTER_LINEAR
        return image(cv2.resize(photo, (size_px, size_px), interpolation=way))

    def framing(self, moment: Moment) -> Framing:
        """Where the person sits in the webcam's frame at a moment."""
        x, y = (
            self.conditions.seat[axis] * FRAME_SIZE_PX[axis] + moment.shift_mm[axis] * self.scale
            for axis in (0, 1)
        )
        return Framing(FRAME_SIZE_PX, (x, y))

    def crop_framing(
        self,
        pose: HeadPose,
        margin: float = 1.5,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> Framing:
        """A square around the face: `margin` times its longer side, as the app cuts it.

        `shift` moves the face in it, in shares of the square's side.
        """
        low, high = np.array(FACE_BOX_MM)
        side_px = max(8, round(margin * float((high - low).max()) * self.scale))
        moved = turned(floats((low + high) / 2)[None, None], pose)[0][0, 0]
        x, y = (side_px * (0.5 + shift[i]) - float(moved[i]) * self.scale for i in (0, 1))
        return Framing((side_px, side_px), (x, y))

    def eye_points_px(self, pose: HeadPose, framing: Framing) -> NDArray[np.float64]:
        """The middles of the eyes' openings (2, 2) in an image's pixels, the left one first."""
        middles = floats(eyes.eye_middles_mm(self.person))[None]
        moved = turned(middles, pose)[0][0].astype(np.float64)
        points: NDArray[np.float64] = moved * self.scale + np.array(framing.center_px)
        return points

    def _picture_px(self, pose: HeadPose, framing: Framing) -> Floats:
        """The person's picture's pixel that each of the image's shows (height, width, 2)."""
        width, height = framing.size_px
        step = max(2, round(WARP_STEP_MM * self.scale))
        columns, rows = (-(-side // step) + 2 for side in (width, height))
        # node k of the coarse grid is the middle of the step-wide cell k - 1 of the image
        x = ((np.arange(columns) - 0.5) * step - 0.5 - framing.center_px[0]) / self.scale
        y = ((np.arange(rows) - 0.5) * step - 0.5 - framing.center_px[1]) / self.scale
        head_mm = untwisted(floats(np.stack(np.meshgrid(x, y), -1)), pose)
        coarse = (head_mm - floats(self._low_mm)) * np.float32(self.px_per_mm) - np.float32(0.5)
        fine = resized(coarse, (columns * step, rows * step))
        return fine[step : step + height, step : step + width]

    def _draw_eyes(self, gaze_deg: tuple[float, float], pose: HeadPose, closed: float) -> None:
        person, conditions = self.person, self.conditions
        axes = eyes.optical_axes(person, gaze_deg, pose, conditions.distance_mm)
        for index, middle in enumerate(eyes.eye_middles_mm(person)):
            patch, (optical, pitch_deg) = self._patches[index], axes[index]
            to_camera, center = eyes.eyeball_view(middle, pose)
            look = Look(
                optical=optical,
                to_camera=to_camera,
                center_mm=center,
                pitch_deg=pitch_deg,
                closed=closed,
                light=conditions.light,
                light_share=conditions.light_share,
                screen_glow=conditions.screen_glow,
                pupil_mm=float(np.clip(person.pupil_radius_mm * conditions.pupil_scale, *PUPIL_MM)),
                level=patch.level,
            )
            drawn = eyes.draw_eye(patch.skin, patch.grid, person, index, look, patch.px_per_mm)
            rows, columns = patch.window.shape[:2]
            if drawn.shape[0] != rows:
                drawn = resized(drawn, (columns, rows), cv2.INTER_AREA)
            drawn = blurred(drawn * patch.shade, self._blur_sigma)
            mixed = patch.plain + patch.window * (drawn - patch.plain)
            self._layer[patch.box][..., :3] = np.clip(mixed, 0, 255)

    def _room(self, size_px: tuple[int, int]) -> Image:
        if size_px not in self._rooms:
            rng = stream(STREAM_ROOM, self.conditions.room_seed)
            self._rooms[size_px] = draw_room(rng, size_px)
        return self._rooms[size_px]


def _finer(grid: Floats) -> Floats:
    """A patch's grid with twice the pixels each way."""
    step = (grid[1, 1] - grid[0, 0]) / 4
    doubled = np.repeat(np.repeat(grid, 2, 0), 2, 1)
    doubled[0::2, :, 1] -= step[1]
    doubled[1::2, :, 1] += step[1]
    doubled[:, 0::2, 0] -= step[0]
    doubled[:, 1::2, 0] += step[0]
    return doubled


def _level(own: Floats, person: Person) -> float:
    """How bright the photograph is around an eye, against SKIN_LEVEL; the skin's tone left out."""
    luminance = np.array([0.3, 0.59, 0.11])
    tone = float(luminance @ np.array(person.skin_gain))
    return float(np.clip(own.mean((0, 1)) @ luminance / (tone * SKIN_LEVEL), 0.7, 1.1))


def _window(rows: int, columns: int) -> Floats:
    """1 inside, falling to 0 over the patch's border, where the drawing meets the photograph."""
    down = np.minimum(np.arange(rows) + 0.5, rows - np.arange(rows) - 0.5) / (0.12 * rows)
    across = np.minimum(np.arange(columns) + 0.5, columns - np.arange(columns) - 0.5)
    window = np.clip(down, 0, 1)[:, None] * np.clip(across / (0.1 * columns), 0, 1)[None]
    return floats(window[..., None])
