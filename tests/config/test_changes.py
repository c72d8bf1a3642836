"""Changes to params.yaml by `-S`."""

import pytest

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.config.changes import changed_params


def test_changes_are_checked_as_params_yaml_is(project: Project) -> None:
    changed = changed_params(
        project.paths, ("train.learning_rate=1e-5", "sessions=[one, two]", "fetch.mesh=null")
    )
    assert changed.train.learning_rate == 1e-5
    assert changed.sessions == ("one", "two")
    assert changed.fetch.mesh is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sessions=one", "must be a list of session ids"),
        ("train.epochs=0", "train.epochs"),
        ("train.epoch=3", "params.yaml has no key train.epoch"),
        ("train.epochs.more=3", "has no key"),
        ("train.epochs", "must be key=value"),
        ("+train.epochs=3", "must be key=value"),
        ("train.device=[", "no valid YAML"),
        ("split.seed=2026-13-45", "'2026-13-45' is no timestamp"),
        (f"split.seed={'9' * 5000}", "is no int"),
        (f"split.seed=0x{'f' * 5000}", "is a number of thousands of digits"),
        ("sessions=[x;touch PWN]", "'x;touch PWN' is no session id"),
        ("fetch.base=&a [*a]", "anchors and aliases"),
        ("\x1b[31m=1", "must be key=value"),
    ],
)
def test_a_wrong_change_is_refused_here(project: Project, change: str, said: str) -> None:
    with pytest.raises(InputError, match="-S") as caught:
        changed_params(project.paths, (change,))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
