"""Columbia Gaze: a person's numbered folder, whose pictures' names say where the person looked.

Format, from the data set's page (https://www.cs.columbia.edu/CAVE/databases/columbia_gaze/) and its
file names: 0001_2m_0P_10V_-15H.jpg is person 0001 at 2 m, the head turned by 0°, the gaze 10°
vertically and −15° horizontally. There are five head poses P, seven H and three V; whatever the
head's pose, 0V 0H looks into the camera, so the angles are those from the camera, as here.

Signs: the page does not tell them. In the file names' own use by others, V is positive upwards and
H towards the picture's right side, which is the person's left; so yaw is −H and pitch −V here.
There is no screen: one is made up on which the angles come out exactly. Pictures are not mirrored.
"""

import re
from pathlib import Path

import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import lies_inside, printable
from custom_gaze.data.adapters.foreign import (
    APART_MS,
    MADE_UP_DEG_PER_PIXEL,
    Adapter,
    ForeignFrame,
    ForeignSession,
    Options,
    around_zero,
    checked,
)
from custom_gaze.data.prepared import LeftOut

NAME = re.compile(r"([0-9]{4})_[0-9]{1,2}m_(-?[0-9]{1,2})P_(-?[0-9]{1,2})V_(-?[0-9]{1,2})H\.jpg")


def knows(path: Path) -> bool:
    """Whether it holds pictures with such names."""
    return path.is_dir() and any(NAME.fullmatch(file.name) for file in path.iterdir())


def read(path: Path, options: Options) -> ForeignSession:
    """The person's session.

    Raises:
        InputError: the folder holds no such picture, or those of several persons.
    """
    named, left_out, persons = [], [], set()
    for file in sorted(path.iterdir()):
        name = NAME.fullmatch(file.name)
        if name and file.is_file() and lies_inside(path, file):
            persons.add(name[1])
            pose, vertical, horizontal = (int(name[group]) for group in (2, 3, 4))
            named.append(((pose, vertical, horizontal), file))
        elif not file.name.startswith("."):
            left_out.append(
                LeftOut(printable(file.name, 100), "is not named as the set's pictures")
            )
    if len(persons) > 1:
        raise InputError(
            f"{path}: holds pictures of {len(persons)} persons; a session is of one: move them "
            "into a folder each"
        )
    if not named:
        return checked(path, [], None, left_out)
    named.sort()
    angles_deg = np.array([(-horizontal, -vertical) for (_, vertical, horizontal), _ in named])
    targets, geometry = around_zero(angles_deg / MADE_UP_DEG_PER_PIXEL, MADE_UP_DEG_PER_PIXEL)
    frames = [
        ForeignFrame(file.name, file, (1 + number) * APART_MS, (float(x), float(y)))
        for number, ((_, file), (x, y)) in enumerate(zip(named, targets, strict=True))
    ]
    return checked(path, frames, geometry, left_out)


ADAPTER = Adapter("Columbia Gaze", knows, read)
