"""Whether faces are found by the files that found them for the crops a model was trained on."""

from custom_gaze.config.specification import Specification

SHOWN = 12  # digits of a hash
# From docs/demo_world.md, "Crops from another detector or mesh"; another mesh was not measured.
MESH_LOST, MESH_GAINED = "expect 1.6 times the error or more", "expect up to 1.2 times the error"
OTHER_BOX, OTHER_BELOW = "expect up to 1.4 times the error", "expect up to 1.2 times the error"
OTHER_MESH = "expect a larger error"
ADVICE = "train again with those files (fetch.detector, fetch.mesh)"


def other_files(
    trained: Specification | None, detector_sha256: str | None, mesh_sha256: str | None, where: str
) -> str:
    """What it means that faces are found `where` by other files than a model's crops, in a line.

    '' where they are the same, or one side does not say: `trained` is what the model says, and no
    detector's hash means that there is none to be compared.
    """
    if trained is None:
        return ""
    by_mesh = trained.crop_from == "mesh"
    if by_mesh and mesh_sha256 is None:
        return _line("a face mesh", f"{where} has none", MESH_LOST)
    if mesh_sha256 is not None and not by_mesh:
        return _line("the detector's box", f"{where} has a face mesh", MESH_GAINED)
    cost = OTHER_BELOW if by_mesh else OTHER_BOX
    for what, mine, theirs, means in (
        ("face mesh", trained.mesh_sha256, mesh_sha256, OTHER_MESH),
        ("detector", trained.detector_sha256, detector_sha256, cost),
    ):
        if mine is not None and theirs is not None and mine != theirs:
            return _line(f"the {what} {mine[:SHOWN]}", f"{where} has {theirs[:SHOWN]}", means)
    return ""


def _line(trained: str, used: str, cost: str) -> str:
    return f"the model was trained on crops by {trained}, {used}: {cost}; {ADVICE}"
