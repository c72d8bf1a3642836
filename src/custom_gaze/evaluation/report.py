"""The closing table and reports/report.html: what was measured, on what, with what."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_gaze.common.files import write_text
from custom_gaze.common.tables import aligned
from custom_gaze.common.untrusted import printable
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.prepared import Manifest
from custom_gaze.evaluation.results import read_metrics

UNTRAINED_BASE = (
    "The base network has random weights: no network that knows eyes was given, so the figures "
    "show that the pipeline works and not what calibration can reach."
)
NONE = "–"  # in a table, where there is no figure
WHAT = {
    "test": "held-out targets, same session",
    "cross_session": "another session",
    "train": "frames it was trained on",
}


def closing_table(paths: Paths) -> str:
    """The errors measured and the model's path, as text for the end of a run.

    Raises:
        InputError: nothing was evaluated yet, or metrics.json is damaged.
    """
    metrics = read_metrics(paths.metrics)
    lines = [aligned(HEADER, _rows(metrics)), ""]
    lines += [f"exported: {_chosen(metrics)}", f"model   {paths.model}"]
    lines.append(f"report  {paths.report}")
    return "\n".join(lines)


# What is measured beside the exported file, by its key in the metrics; first what a user has
# without training. The corrected base, a candidate, is among the metrics and not here: it is the
# best correction without the support vector regressor, and mostly the same.
BESIDE = {
    "constant_deg": "constant",
    "base_deg": "base as it is",
    "best_correction_deg": "best correction",
    **{each.metric: each.label for each in (Candidate.PROBE, Candidate.FINETUNE)},
}
HEADER = (
    *("measured on", "frames", "targets", *BESIDE.values()),
    *("exported", "95 % interval", "pixels"),
)


def _chosen(metrics: dict[str, Any]) -> str:
    choice = metrics["choice"]
    return f"{choice['exported'].label}: {printable(choice['reason'], 1000)}"


def _rows(metrics: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            WHAT[name],
            str(entry["frames"]),
            str(entry["targets"]),
            *_beside(entry),
            *_error(entry),
        )
        for name, entry in metrics.items()
        if name in WHAT
    ]


def _beside(entry: dict[str, Any]) -> list[str]:
    return [f"{entry[key]:.2f}°" if key in entry else NONE for key in BESIDE]


def _error(entry: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"{entry['error_deg']:.2f}°",
        f"{entry['low_deg']:.2f}–{entry['high_deg']:.2f}°" if "low_deg" in entry else NONE,
        f"{entry['error_px']:.0f}",
    )


def write_html(
    metrics: dict[str, Any], sessions: dict[str, Any], facts: dict[str, Any], paths: Paths
) -> None:
    """Write reports/report.html: one file, pictures inside, no script and no network."""
    body = [
        "<h1>custom-gaze</h1>",
        *_warnings(facts),
        "<h2>Errors</h2>",
        "<p>Mean angular error of the exported file, with a 95 % interval over targets: "
        "Student's t on its logarithm, where there are three targets at least. In simulated "
        "sessions such intervals of 3 to 25 targets covered the mean 90 to 95 % of the time, least "
        "where a few targets are much worse than the others. "
        "Beside it, on the same frames, what a user has without training: the mean of the "
        "calibration targets as a constant answer, the base network as it is, and the base network "
        "through the best of the app's corrections (gain and offset, quadratic, support vector "
        "regression), chosen by cross-validation and fitted on all frames but the test targets'. "
        "The base network through its best polynomial, the probe and the fine-tuned network are "
        "the candidates for export.</p>",
        _table(HEADER, _rows(metrics)),
        f"<p>Exported: {html.escape(_chosen(metrics))}.</p>",
        _table(*_held_out_rows(metrics["choice"])),
        "<h2>Sessions</h2>",
        _table(*_session_rows(sessions)),
        _picture(paths.screen_plot, "Targets and the model's answers on the screen"),
        _picture(paths.error_plot, "Mean error of each target"),
        _picture(paths.loss_plot, "Loss per epoch: frames trained on, and held-out targets"),
        "<h2>Frames left out</h2>",
        _left_out(facts["manifests"]),
        "<h2>Made with</h2>",
        _table(("what", "value"), _made_with(facts)),
    ]
    page = _PAGE.replace("{body}", "\n".join(body))
    write_text(paths.report, page)


def _warnings(facts: dict[str, Any]) -> list[str]:
    if facts["base"].get("kind") != "random":
        return []
    return [f"<p class=warning>{html.escape(UNTRAINED_BASE)}</p>"]


def _held_out_rows(choice: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What the choice was made by: no test target is among these."""
    errors = {name: choice.get(name.held_out) for name in Candidate}
    rows: list[tuple[str, ...]] = [
        (name.label, f"{error:.2f}°") for name, error in errors.items() if error is not None
    ]
    return ("candidate", "error on calibration targets held out"), rows


def _session_rows(
    sessions: dict[str, Any],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    header: tuple[str, ...] = (
        "session",
        "tested on",
        "frames",
        "targets",
        *BESIDE.values(),
        *HEADER[-3:],
    )
    rows: list[tuple[str, ...]] = [
        (
            name,
            entry["tested_as"],
            str(entry["frames"]),
            str(entry["targets"]),
            *_beside(entry),
            *_error(entry),
        )
        for name, entry in sessions.items()
    ]
    return header, rows


def _left_out(manifests: Sequence[Manifest]) -> str:
    rows = [
        (manifest.session, entry.filename, entry.reason)
        for manifest in manifests
        for entry in manifest.left_out
    ]
    return _table(("session", "frame", "reason"), rows) if rows else "<p>None.</p>"


def _made_with(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    base = facts["base"]
    manifest: Manifest = facts["manifests"][0]
    return [
        ("base network", f"{facts['trunk']}, {base.get('kind')}, {base.get('source')}"),
        ("exported", facts["method"].label),
        ("best correction", str(facts["correction"])),
        ("face detector", f"{manifest.detector.kind}, {manifest.detector.sha256[:12]}"),
        ("crop from", manifest.crop_from),
        ("frames trained on", str(facts["train_frames"])),
        ("code that trained", facts["code_version"]),
        ("model (SHA-256)", facts["model_sha256"]),
        ("dataset (SHA-256 of its index)", facts["dataset_sha256"]),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        inner = "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)
        return f"<tr>{inner}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', header)}</thead><tbody>{body}</tbody></table>"


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>custom-gaze report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2933; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb;
  overflow-wrap: anywhere; }
th { font-weight: 600; }
figure { margin: 1.5rem 0; } img { max-width: 100%; } figcaption { color: #52606d; }
.warning { background: #fff3cd; border-left: 4px solid #e0a800; padding: .6rem .9rem; }
</style></head><body>
{body}
</body></html>
"""
