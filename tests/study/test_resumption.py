from __future__ import annotations

import json

import pytest

from hf_bml.study import resumption
from hf_bml.training.checkpoint import seal_checkpoint


@pytest.mark.parametrize("value", ["false", "no", ""])
def test_no_resume(parse, value):
    recipe = parse("--resume_from_checkpoint", value)
    assert resumption.resume_point(recipe) is None
    resumption.check_resume([recipe])


def write_checkpoint(folder):
    """A sealed one with a single file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text("all of them")
    seal_checkpoint(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 0}')
    return folder


def test_auto_is_both_first_start_and_restart(parse, tmp_path):
    recipe = parse("--resume_from_checkpoint", "auto")
    resumption.check_resume([recipe])
    assert resumption.resume_point(recipe) is None
    folder = write_checkpoint(tmp_path / "out" / "checkpoint-3")
    resumption.check_resume([recipe])
    assert resumption.resume_point(recipe) == str(folder)


@pytest.mark.parametrize("value", ["true", "last", "latest"])
def test_resume_from_the_newest_complete_checkpoint(parse, tmp_path, value):
    recipe = parse("--resume_from_checkpoint", value)
    with pytest.raises(ValueError, match=r"expected a complete checkpoint-STEP, found none in .*out\. Use .*=auto"):
        resumption.check_resume([recipe])
    for step in (9, 10, 11):
        folder = write_checkpoint(tmp_path / "out" / f"checkpoint-{step}")
        if step == 11:
            (folder / "trainer_state.json").unlink()
    with pytest.warns(UserWarning, match="skipped: checkpoint-11 "):
        resumption.check_resume([recipe])
        assert resumption.resume_point(recipe) == str(tmp_path / "out" / "checkpoint-10")


@pytest.mark.parametrize("value", ["auto", "last"])
def test_the_newest_checkpoint_of_another_training_is_refused(parse, tmp_path, value):
    folder = write_checkpoint(tmp_path / "out" / "checkpoint-10")
    first = parse("--resume_from_checkpoint", value)
    (tmp_path / "out" / "training.json").write_text(json.dumps(resumption.training_identity(first)))
    assert resumption.resume_point(first) == str(folder)
    for option in (("--learning_rate", "1e-6"), ("--seed", "7")):
        other = parse("--resume_from_checkpoint", value, *option)
        with pytest.raises(ValueError, match=r"checkpoint-10 is of a training with other options"):
            resumption.check_resume([other])
        named = parse("--resume_from_checkpoint", str(folder), *option)  # on purpose
        assert resumption.resume_point(named) == str(folder) and resumption.goes_on_from_another(named, folder)


def test_resume_from_a_given_folder(parse, tmp_path):
    recipe = parse("--resume_from_checkpoint", str(tmp_path))
    with pytest.raises(ValueError, match=r"no weights, .*1 more.*`auto`"):
        resumption.check_resume([recipe])
    write_checkpoint(tmp_path)
    assert resumption.resume_point(recipe) == str(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_')
    with pytest.raises(ValueError, match=r"trainer_state\.json is damaged"):
        resumption.check_resume([recipe])


def test_an_interrupted_series_goes_on(parse, tmp_path):
    """One finished run, one that never began: the first is reused, the second starts anew."""
    first, second = parse("--resume_from_checkpoint", "last"), parse("--resume_from_checkpoint", "last")
    second.training.output_dir = str(tmp_path / "second")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    resumption.check_resume([first, second])
    assert resumption.resume_point(second) is None
