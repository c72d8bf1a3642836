"""The albumentations recipe: what one sample of a crop may differ in. Labels never change.

Colour jitter, Gaussian blur, ISO noise and small shifts. Nothing flips (a mirrored eye looks the
other way) and nothing rotates (roll turns yaw into pitch).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from custom_gaze.config.params import AugmentParams


class Augmenter:
    """Makes sample number `sample` of a crop; the same (seed, name, sample) gives the same bytes.

    Not thread-safe: albumentations keeps its random state in the recipe. One for each worker.
    """

    def __init__(self, params: AugmentParams, seed: int) -> None:
        import albumentations
        import cv2

        self._seed = seed
        shift = (-params.shift_share, params.shift_share)
        steps = [
            albumentations.Affine(
                translate_percent={"x": shift, "y": shift},
                border_mode=cv2.BORDER_REFLECT_101,  # a black border would be a new feature
                p=0.8,
            ),
            albumentations.ColorJitter(
                brightness=_around_one(params.brightness),
                contrast=_around_one(params.contrast),
                saturation=_around_one(params.saturation),
                hue=(0.0, 0.0),
                p=0.8,
            ),
        ]
        if params.blur_max_sigma_px > 0:
            sigma = (min(0.1, params.blur_max_sigma_px), params.blur_max_sigma_px)
            steps.append(albumentations.GaussianBlur(blur_limit=0, sigma_limit=sigma, p=0.3))
        if params.iso_noise > 0:
            colour = {"color_shift": (0.0, 0.1 * params.iso_noise)}
            steps.append(
                albumentations.ISONoise(intensity=(0.0, params.iso_noise), p=0.5, **colour)
            )
        self._recipe = albumentations.Compose(steps)

    def __call__(self, crop: NDArray[np.uint8], name: str, sample: int) -> NDArray[np.uint8]:
        """Sample number `sample` of `crop`, uint8 (H, W, 3) RGB, same shape; 0 is the crop itself.

        `name` names the frame (session and file). The sample depends on it and on nothing else, so
        a frame's samples stay what they are when other frames come or go.
        """
        if sample == 0:
            return crop
        # One seed a step: Compose.set_random_seed gives every step the same one, and then all of
        # them draw the same numbers and are on or off together.
        for number, step in enumerate(self._recipe.transforms):
            said = f"{self._seed}/{name}/{sample}/{number}"
            step.set_random_seed(int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big"))
        return np.asarray(self._recipe(image=crop)["image"], np.uint8)


def _around_one(share: float) -> tuple[float, float]:
    return (1.0 - share, 1.0 + share)
