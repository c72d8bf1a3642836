"""params.yaml's two lists of sessions: in every form that a hand or DVC gives them."""

from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError
from custom_gaze.config.session_lists import write_session_lists

FORMS = {
    "as shipped": ("sessions: [one]", "  sessions: []"),
    "a comment behind it": ("sessions: [one] # mine", "  sessions: [two, three]  # tested"),
    "as DVC writes them": ("sessions:\n- one\n- two", "  sessions:\n  - three"),
    "items indented": ("sessions:\n  - one\n  - two", "  sessions:\n    - three"),
    "over lines": ("sessions: [one,\n  two]", "  sessions: [\n    three\n  ]"),
}


@pytest.mark.parametrize(("own", "tested"), FORMS.values(), ids=FORMS)
def test_only_the_lists_change(tmp_path: Path, own: str, tested: str) -> None:
    shipped = (REPOSITORY / "params.yaml").read_text()
    (line,) = [line for line in shipped.splitlines() if line.startswith("sessions:")]
    path = tmp_path / "params.yaml"
    before = shipped.replace(line, own).replace("  sessions: []", tested)
    path.write_text(before)
    write_session_lists(["b", "1e5"], ["d"], path)
    content = yaml.safe_load(path.read_text())
    assert (content["sessions"], content["evaluate"]["sessions"]) == (["b", "1e5"], ["d"])
    lines = path.read_text().splitlines()
    assert [line for line in lines if "sessions: " in line and "#" not in line] == [
        "sessions: [b, '1e5']",
        "  sessions: [d]",
    ]
    kept = [line for line in lines if "essions: " not in line]
    for text in (own, tested):  # the comments stand on lines of their own
        if "#" in text:
            comment = text[text.index("#") :]
            assert any(line.strip() == comment for line in lines)
            kept = [line for line in kept if line.strip() != comment]
    others = [line for line in shipped.splitlines() if "essions: " not in line]
    assert kept == others
    write_session_lists(["b", "1e5"], ["d"], path)
    assert path.read_text().splitlines() == lines


def test_what_cannot_be_changed_line_by_line_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    content = "{sessions: [one], evaluate: {sessions: []}}\n"
    path.write_text(content)
    with pytest.raises(InputError, match=r"by hand sessions=\[two\] and evaluate\.sessions=\[\]"):
        write_session_lists(["two"], [], path)
    assert path.read_text() == content
