"""One image of a person: a given gaze, head pose and framing, as the session's camera sees it."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from custom_gaze.demo import eyes, skin
from custom_gaze.demo.conditions import FRAME_SIZE_PX, Conditions, Moment
from custom_gaze.demo.head import PIVOT_MM, HeadPose, relief_at, turned, untwisted
from custom_gaze.demo.person import Person
from custom_gaze.demo.room import draw_room
from custom_gaze.demo.seeds import STREAM_ROOM, stream

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]

FINEST_PX_PER_MM, COARSEST_PX_PER_MM = 2.3, 0.4  # of the person's picture
SUPERSAMPLED_BELOW_PX_PER_MM = 0.8  # eyes on a coarser picture are drawn twice as fine
FACE_BOX_MM = ((-65.0, -55.0), (65.0, 106.0))  # what RFB-320 boxes, on a head facing it
WARP_STEP_MM = 6.0  # the head's turn is computed on this grid and interpolated
SKIN_LEVEL = 182.0  # of the photograph's skin around an eye in full light
GLASSES_Z_MM = 9.0  # before the plane of the eyes
NOISE_PX = 256  # how far the noise's pattern is shifted between frames


@dataclass(frozen=True)
class Framing:
    """An image's size (width, height) and where the middle between the eyes lies in it, pixels.

    The place is that of a head facing the camera: one that turns moves a little about its neck.
    """

    size_px: tuple[int, int]
    center_px: tuple[float, float]


@dataclass
class _EyePatch:
    """What does not change from frame to frame around one eye."""

    box: tuple[slice, slice]
    grid: Floats
    skin: Floats
    shade: Floats
    plain: Floats  # the finished picture without an eye, for the soft border
    window: Floats
    level: float  # the photograph's light here, 1 where it is full


def scale_of_face(face_px: float) -> float:
    """Pixels per millimetre at which a detector's face box has sides of up to `face_px`."""
    return face_px / float(np.max(np.subtract(FACE_BOX_MM[1], FACE_BOX_MM[0])))


class Scene:
    """A person under a session's conditions, ready to be drawn with any gaze and head pose.

    Building one costs much more than drawing an image of it (`Scene.image`), so one is kept for
    many images. It holds buffers: threads need one each. `scale` is pixels per millimetre at the
    face, 1024 / 600 for a frame of 1280 pixels at 60 cm; `whole` draws shoulders and all, else
    only what a crop around the face shows.
    """

    def __init__(
        self, person: Person, conditions: Conditions, scale: float | None = None, whole: bool = True
    ) -> None:
        self.person = person
        self.conditions = conditions
        self.scale = conditions.scale if scale is None else scale
        self.px_per_mm = float(np.clip(1.1 * self.scale, COARSEST_PX_PER_MM, FINEST_PX_PER_MM))
        picture = skin.make_picture(person, self.px_per_mm, whole)
        self._low_mm = np.array(picture.low_mm)
        self._blur_sigma = conditions.lens_sigma_px * self.px_per_mm / self.scale
        shade = self._shade(picture.alpha.shape)
        plain = picture.rgb * shade
        premultiplied = np.concatenate([plain, np.full_like(plain[..., :1], 255)], -1)
        premultiplied *= picture.alpha[..., None]
        blurred = cv2.GaussianBlur(premultiplied, (0, 0), self._blur_sigma)
        self._layer = np.clip(blurred, 0, 255).astype(np.uint8)
        self._patches = [
            self._patch(picture, shade, blurred, middle) for middle in eyes.eye_middles_mm(person)
        ]
        self._glasses = self._draw_glasses(float(shade.mean()))
        self._tone = _tone_table(conditions)
        self._rooms: dict[tuple[int, int], Image] = {}

    def _shade(self, size: tuple[int, ...]) -> Floats:
        """Light and shade on the head's relief, as a factor (rows, columns, 3)."""
        conditions = self.conditions
        columns, rows = (max(2, round(side / self.px_per_mm / 5)) for side in (size[1], size[0]))
        x = self._low_mm[0] + (np.arange(columns) + 0.5) * size[1] / self.px_per_mm / columns
        y = self._low_mm[1] + (np.arange(rows) + 0.5) * size[0] / self.px_per_mm / rows
        surface = relief_at(np.stack(np.meshgrid(x, y), -1).astype(np.float32))
        normal = np.concatenate([-surface[..., 1:], np.ones_like(surface[..., :1])], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        light = conditions.pose.matrix().T @ np.array(conditions.light)
        facing = np.clip(normal @ light.astype(np.float32), 0, 1)[..., None]
        share = conditions.light_share
        color = 1 + facing * (np.array(conditions.light_color, np.float32) - 1)
        shade = (1 - share + share * facing / 0.8) * color
        return cv2.resize(shade, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)

    def _draw_glasses(self, light: float) -> Image | None:
        glasses = self.person.glasses
        if glasses is None:
            return None
        layer = skin.draw_glasses(self.person, glasses, self.px_per_mm)
        layer[..., :3] *= light
        layer = cv2.GaussianBlur(layer, (0, 0), self._blur_sigma)
        return np.clip(np.round(layer), 0, 255).astype(np.uint8)

    def _patch(
        self, picture: skin.Picture, shade: Floats, plain: Floats, middle_mm: NDArray[np.float64]
    ) -> _EyePatch:
        ppm = self.px_per_mm
        corner = (middle_mm + eyes.PATCH_LOW_MM - self._low_mm) * ppm
        left, top = np.round(corner).astype(int)
        fine = ppm * (2 if ppm < SUPERSAMPLED_BELOW_PX_PER_MM else 1)
        columns, rows = (round(size * ppm) for size in eyes.PATCH_SIZE_MM)
        offset = (np.array([left, top]) - corner) / ppm
        grid = eyes.patch_grid(ppm, offset)
        if fine != ppm:
            grid = _finer(grid)
        box = np.s_[top : top + rows, left : left + columns]
        own = picture.rgb[box]
        return _EyePatch(
            box=box,
            grid=grid,
            skin=cv2.resize(own, (grid.shape[1], grid.shape[0]), interpolation=cv2.INTER_LINEAR),
            shade=shade[box],
            plain=plain[box][..., :3].copy(),
            window=_window(rows, columns),
            level=_level(own, self.person),
        )

    def image(
        self,
        gaze_deg: tuple[float, float],
        pose: HeadPose,
        framing: Framing,
        closed: float = 0.0,
    ) -> Image:
        """The person looking along `gaze_deg` (yaw, pitch), (height, width, 3) RGB uint8.

        What the light and the lens do is in the picture, what the camera adds (exposure, colour,
        noise: `develop`) is not. The eyes turn as far as `gaze_deg` and `pose` demand: more than
        35 degrees between the two look unnatural. The pose's yaw may reach 40, its pitch 30
        degrees.
        """
        self._draw_eyes(gaze_deg, pose, closed)
        width, height = framing.size_px
        step = max(2, round(WARP_STEP_MM * self.scale))
        columns, rows = (-(-side // step) + 2 for side in (width, height))
        # node k of the coarse grid is the middle of the step-wide cell k - 1 of the image
        x = ((np.arange(columns) - 0.5) * step - 0.5 - framing.center_px[0]) / self.scale
        y = ((np.arange(rows) - 0.5) * step - 0.5 - framing.center_px[1]) / self.scale
        nodes = np.stack(np.meshgrid(x, y), -1).astype(np.float32)
        at = (untwisted(nodes, pose) - self._low_mm.astype(np.float32)) * np.float32(self.px_per_mm)
        at -= 0.5
        fine = cv2.resize(at, (columns * step, rows * step), interpolation=cv2.INTER_LINEAR)
        fine = fine[step : step + height, step : step + width]
        seen = cv2.remap(self._layer, fine, None, cv2.INTER_LINEAR)
        opacity = cv2.cvtColor(seen[..., 3], cv2.COLOR_GRAY2RGB)
        behind = cv2.multiply(self._room(framing.size_px), 255 - opacity, scale=1 / 255)
        shown: Image = cv2.add(cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB), behind)
        self._put_glasses(shown, pose, framing)
        return shown

    def frame(self, moment: Moment, size_px: tuple[int, int] = FRAME_SIZE_PX) -> Image:
        """A webcam's frame of a moment, before its JPEG, (height, width, 3) RGB uint8."""
        framing = self.framing(moment, size_px)
        raw = self.image(moment.gaze_deg, moment.pose, framing, moment.closed)
        return self.develop(raw, np.random.default_rng(moment.noise_seed), moment.motion_px)

    def framing(self, moment: Moment, size_px: tuple[int, int] = FRAME_SIZE_PX) -> Framing:
        """Where the person sits in the frame at a moment."""
        seat = self.conditions.seat
        x = seat[0] * size_px[0] + moment.shift_mm[0] * self.scale
        y = seat[1] * size_px[1] + moment.shift_mm[1] * self.scale
        return Framing(size_px, (x, y))

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
        middle = ((low + high) / 2).astype(np.float32)
        moved = turned(middle[None, None], pose)[0][0, 0]
        x, y = (side_px * (0.5 + shift[i]) - float(moved[i]) * self.scale for i in (0, 1))
        return Framing((side_px, side_px), (x, y))

    def crop(
        self,
        gaze_deg: tuple[float, float],
        pose: HeadPose,
        size_px: int,
        rng: np.random.Generator,
        *,
        margin: float = 1.5,
        shift: tuple[float, float] = (0.0, 0.0),
        closed: float = 0.0,
        motion_px: tuple[float, float] = (0.0, 0.0),
    ) -> Image:
        """The square around the face as a network gets it, (size_px, size_px, 3) RGB uint8.

        Drawn as large as `scale` makes the face, developed, compressed as JPEG, and only then
        brought to `size_px`, bilinear with antialiasing when shrinking: a small `scale` gives the
        enlarged crop of a small face.
        """
        raw = self.image(gaze_deg, pose, self.crop_framing(pose, margin, shift), closed)
        photo = self.develop(raw, rng, motion_px)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.conditions.jpeg_quality]
        # channels keep their order through both calls, whatever JPEG takes them for
        photo = np.asarray(cv2.imdecode(cv2.imencode(".jpg", photo, quality)[1], 1), np.uint8)
        way = cv2.INTER_AREA if photo.shape[0] > size_px else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(photo, (size_px, size_px), interpolation=way), np.uint8)

    def develop(
        self,
        raw: Image,
        rng: np.random.Generator,
        motion_px: tuple[float, float] = (0.0, 0.0),
    ) -> Image:
        """What the camera makes of an image: motion blur, exposure, colour, noise."""
        if np.hypot(*motion_px) > 1.0:
            raw = cv2.filter2D(raw, -1, _motion_kernel(motion_px))
        toned = cv2.LUT(raw, self._tone)
        height, width = raw.shape[:2]
        left, top = rng.integers(NOISE_PX, size=2)
        noise = _noise(round(2 * self.conditions.noise_sigma) / 2, (width, height))
        own = noise[top : top + height, left : left + width]
        shown: Image = cv2.add(toned, own, dtype=cv2.CV_8U)
        return shown

    def eye_points_px(self, pose: HeadPose, framing: Framing) -> NDArray[np.float64]:
        """The middles of the eyes' openings (2, 2) in an image's pixels, the left one first."""
        middles = eyes.eye_middles_mm(self.person).astype(np.float32)[None]
        moved = turned(middles, pose)[0][0]
        points: NDArray[np.float64] = moved * self.scale + np.array(framing.center_px)
        return points

    def _draw_eyes(self, gaze_deg: tuple[float, float], pose: HeadPose, closed: float) -> None:
        person, conditions = self.person, self.conditions
        axes = eyes.optical_axes(person, gaze_deg, pose, conditions.distance_mm)
        for index, (patch, (optical, pitch_deg)) in enumerate(
            zip(self._patches, axes, strict=True)
        ):
            middle = eyes.eye_middles_mm(person)[index]
            to_camera, center = eyes.eyeball_view(middle, pose)
            look = eyes.Look(
                optical=optical,
                to_camera=to_camera,
                center_mm=center,
                pitch_deg=pitch_deg,
                closed=closed,
                light=conditions.light,
                light_share=conditions.light_share,
                screen_glow=conditions.screen_glow,
                pupil_mm=float(np.clip(person.pupil_radius_mm * conditions.pupil_scale, 1.0, 3.4)),
                level=patch.level,
            )
            fine = self.px_per_mm * patch.grid.shape[0] / patch.window.shape[0]
            drawn = eyes.draw_eye(patch.skin, patch.grid, person, index, look, fine)
            self._put(patch, drawn)

    def _put(self, patch: _EyePatch, drawn: Floats) -> None:
        rows, columns = patch.window.shape[:2]
        if drawn.shape[0] != rows:
            drawn = cv2.resize(drawn, (columns, rows), interpolation=cv2.INTER_AREA)
        drawn = drawn * patch.shade
        drawn = cv2.GaussianBlur(drawn, (0, 0), self._blur_sigma)
        mixed = patch.plain + patch.window * (drawn - patch.plain)
        self._layer[patch.box][..., :3] = np.clip(mixed, 0, 255)

    def _put_glasses(self, shown: Image, pose: HeadPose, framing: Framing) -> None:
        """Lay the glasses, a flat thing before the eyes, over `shown`, in place."""
        if self._glasses is None:
            return
        rotation = pose.matrix()
        flat = rotation[:2, :2] * (self.scale / self.px_per_mm)
        first_mm = np.append(np.array(skin.GLASSES_MM[0]) + 0.5 / self.px_per_mm, GLASSES_Z_MM)
        first_mm = (rotation @ (first_mm - PIVOT_MM) + PIVOT_MM)[:2]
        place = first_mm * self.scale + np.array(framing.center_px)
        rows, columns = self._glasses.shape[:2]
        corners = np.array([[0, 0], [columns, 0], [0, rows], [columns, rows]]) @ flat.T + place
        low = np.clip(np.floor(corners.min(0)) - 1, 0, framing.size_px).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + 2, 0, framing.size_px).astype(int)
        if (high <= low).any():
            return
        to_region = np.column_stack([flat, place - low])
        layer = cv2.warpAffine(self._glasses, to_region, tuple(int(v) for v in high - low))
        region = shown[low[1] : high[1], low[0] : high[0]]
        clear = 255 - cv2.cvtColor(layer[..., 3], cv2.COLOR_GRAY2RGB)
        through = cv2.multiply(region, clear, scale=1 / 255)
        region[:] = cv2.add(cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), through)

    def _room(self, size_px: tuple[int, int]) -> Image:
        if size_px not in self._rooms:
            rng = stream(STREAM_ROOM, self.conditions.room_seed)
            self._rooms[size_px] = draw_room(rng, size_px)
        return self._rooms[size_px]


def _level(own: Floats, person: Person) -> float:
    """How bright the photograph is around an eye, against SKIN_LEVEL; the person's tone left out."""
    luminance = np.array([0.3, 0.59, 0.11])
    tone = float(luminance @ np.array(person.skin_gain))
    return float(np.clip(own.mean((0, 1)) @ luminance / (tone * SKIN_LEVEL), 0.7, 1.1))


def _finer(grid: Floats) -> Floats:
    """A patch's grid with twice the pixels each way."""
    step = (grid[1, 1] - grid[0, 0]) / 4
    doubled = np.repeat(np.repeat(grid, 2, 0), 2, 1)
    doubled[0::2, :, 1] -= step[1]
    doubled[1::2, :, 1] += step[1]
    doubled[:, 0::2, 0] -= step[0]
    doubled[:, 1::2, 0] += step[0]
    return doubled


def _window(rows: int, columns: int) -> Floats:
    """1 inside, falling to 0 over the patch's border, where the drawing meets the photograph."""
    down = np.minimum(np.arange(rows) + 0.5, rows - np.arange(rows) - 0.5) / (0.12 * rows)
    across = np.minimum(np.arange(columns) + 0.5, columns - np.arange(columns) - 0.5)
    window = np.clip(down, 0, 1)[:, None] * np.clip(across / (0.1 * columns), 0, 1)[None]
    return window[..., None].astype(np.float32)


def _tone_table(conditions: Conditions) -> Image:
    """Exposure, white balance and gamma with a soft shoulder, as a table (1, 256, 3) uint8."""
    level = np.linspace(0, 1, 256)[:, None] * conditions.exposure
    level = level * np.array(conditions.white_balance)
    level = np.where(level > 0.8, 0.8 + 0.2 * np.tanh((level - 0.8) / 0.2), level)
    table = 255 * level**conditions.gamma
    return np.clip(np.round(table), 0, 255).astype(np.uint8)[None]


def _motion_kernel(motion_px: tuple[float, float]) -> Floats:
    """A line of the motion's length and direction, its weights summing to 1."""
    reach = int(np.ceil(max(abs(motion_px[0]), abs(motion_px[1])) / 2)) + 1
    size = 2 * reach + 1
    kernel = np.zeros((size, size), np.float32)
    for part in np.linspace(-0.5, 0.5, 17):
        x, y = reach + part * motion_px[0], reach + part * motion_px[1]
        left, top = int(x), int(y)
        kernel[top, left] += (1 - x + left) * (1 - y + top)
        kernel[top, left + 1] += (x - left) * (1 - y + top)
        kernel[top + 1, left] += (1 - x + left) * (y - top)
        kernel[top + 1, left + 1] += (x - left) * (y - top)
    return kernel / kernel.sum()


@lru_cache(maxsize=16)
def _noise(sigma: float, size_px: tuple[int, int]) -> NDArray[np.int8]:
    """Sensor noise in grey levels, NOISE_PX larger than an image of `size_px` each way, int8."""
    rng = stream(STREAM_ROOM, 0)
    rows, columns = size_px[1] + NOISE_PX, size_px[0] + NOISE_PX
    gray = rng.standard_normal((rows, columns, 1), np.float32)
    noise = 0.75 * gray + 0.66 * rng.standard_normal((rows, columns, 3), np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.55) * np.float32(1.9 * sigma)
    return np.clip(np.round(noise), -127, 127).astype(np.int8)
