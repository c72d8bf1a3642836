"""What the bench knows stands in docs/demo_world.md, and nowhere else otherwise."""

import re

from conftest import REPOSITORY
from custom_gaze.data.known_accuracy import OTHER_DAY_DEG, SAME_DAY_DEG, another_day


def test_the_figures_are_those_of_the_documented_bench() -> None:
    page = (REPOSITORY / "docs" / "demo_world.md").read_text(encoding="utf-8")
    for title, figures in (("Same day", SAME_DAY_DEG), ("Another day", OTHER_DAY_DEG)):
        table = page.split(f"{title}, embedded base:")[1].split("\n\n")[1]
        heads = [int(cell) for cell in re.findall(r"[0-9]+", table.splitlines()[0])]
        (row,) = [line for line in table.splitlines() if line.startswith("| **auto**,")]
        values = [float(cell.split()[0]) for cell in row.strip("| ").split("|")[1:]]
        assert dict(zip(heads, values, strict=True)) == figures


def test_another_day_is_told_by_the_nearest_smaller_number_of_targets() -> None:
    for targets, like in ((4, 9), (9, 9), (24, 9), (25, 25), (1000, 25)):
        said = f"{like} targets of one day left {SAME_DAY_DEG[like]:.1f}° that day and "
        assert f"{said}{OTHER_DAY_DEG[like]:.1f}° another day" in another_day(targets)
