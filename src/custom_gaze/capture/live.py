"""`custom-gaze live`: the exported model at work, in a page of the browser."""

from collections.abc import Callable
from pathlib import Path

from custom_gaze.capture.live_loop import Loop
from custom_gaze.capture.live_models import load_side_by_side
from custom_gaze.capture.live_routes import Live
from custom_gaze.capture.server import serving
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import load_finder
from custom_gaze.faces.other_files import other_files

PAGE = "live"


def load_loop(params: Params, paths: Paths, model: Path | None) -> tuple[Loop, str]:
    """The loop over a model, None: models/custom_gaze.onnx; and a warning, '' where there is none.

    Raises:
        InputError: the detector, the mesh or the model cannot be used.
    """
    models = load_side_by_side(params, paths, model)
    finder = load_finder(paths.faces, params.prepare.min_score)
    mesh_sha256 = None if finder.mesh is None else finder.mesh.sha256
    said = models.model.specification, finder.detector.sha256, mesh_sha256
    return Loop(finder, load_eye_finder(), models), other_files(*said, "models/faces")


def run(
    params: Params,
    paths: Paths,
    model: Path | None,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    """Serve the page until it, or Ctrl-C, ends the command.

    Args:
        params, paths: the project.
        model: None means models/custom_gaze.onnx.
        say: takes warnings.
        show: takes the page's address, once it answers.

    Raises:
        InputError: the detector, the mesh or the model cannot be used.
    """
    loop, warning = load_loop(params, paths, model)
    for line in filter(None, (warning, loop.models.alone)):
        say(f"warning: {line}")
    live = Live(loop, params, paths)
    with serving(PAGE, live.routes()) as served:
        show(served.url)
        try:
            served.wait()
        finally:
            live.recalibration.stop()
