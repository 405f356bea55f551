from __future__ import annotations

import json

import pytest
import torch
from digits_recipe import DIGITS

from hf_bml import MODULATIONS, Modulation
from hf_bml.study import checks
from hf_bml.study.parser import train_parser
from hf_bml.study.recipe import parse_recipe
from hf_bml.training.checkpoint import seal_checkpoint

YAML = (
    DIGITS
    + """optim: sgd
use_cpu: true
"""
)


@pytest.fixture
def parse(tmp_path):
    def parse(*arguments):
        path = tmp_path / "mine.yaml"
        path.write_text(YAML)
        return parse_recipe(train_parser(), path, [str(path), f"--output_dir={tmp_path / 'out'}", *arguments])

    return parse


def test_a_good_recipe_passes_without_data_weights_or_random_draws(parse, monkeypatch):
    monkeypatch.setattr("hf_bml.data.load_multimodal_dataset", None)
    before = torch.get_rng_state()
    checks.check_recipe(parse())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "digit"], "Did you mean 'digits'"),
        (["--dataset", "nowhere:load"], "no module 'nowhere'"),
        (["--dataset_options.snr", "3"], "snr_db"),
        (["--dataset_options.snr_db", "loud"], "snr_db must be of type float, found 'loud'"),
        (["--dataset_options.seed", "1.5"], "seed must be of type int, found 1.5"),
        (["--dataset_options.seed", "true"], "seed must be of type int, found True"),
        (["--fusion", "conact"], "Did you mean 'concat'"),
        (["--fusion", "film", "--conditioning", "vsual"], "Did you mean 'visual'"),
        (["--interaction", "mmtn"], "Did you mean 'mmtm'"),
        (["--interaction", "mmtm", "--interaction_options.gate", "2"], "Did you mean 'gate_scale'"),
        (["--unimodal_prediction", "prob"], "Did you mean 'probe'"),
        (["--auxiliary_loss_weight", "-1"], "auxiliary_loss_weight must be a number of at least 0"),
        (["--modalities", '{"audio": "conv"}'], "audio must be a mapping"),
        (["--modalities.audio.channels", "[a]"], "channels|cannot be built"),
        (["--modalities.audio", "{type: timm, architecture: resnet1888}"], "resnet1888"),
        (["--modalities.audio", "{type: timm, architecture: resnet18, model_args: {bogus: 1}}"], "bogus"),
        (["--modalities.audio", "{type: transformers, model: a/b, pooling: max}"], "pooling"),
        (["--processors.audio.type", "log_spectogram"], "log_spectrogram"),
        (["--processors.visual.size", "big"], "processors|visual"),
        (["--processors.visual.num_channels", "3"], "'visual': the encoder takes in_channels=1, .* num_channels=3"),
        (["--modalities.audio.in_channels", "2"], "'audio': the encoder takes in_channels=2, .* num_channels=1"),
        (
            [
                "--modalities.audio={type: sequence, input_size: 4}",
                "--processors.audio={type: features, input_size: 5}",
            ],
            "'audio': the encoder takes input_size=4, but the processor gives input_size=5",
        ),
        (
            ["--modalities.audio={type: xvector, num_bins: 24}"],
            "'audio': the encoder takes num_bins=24, but the processor gives num_bins=65",
        ),
        (
            [
                "--modalities.audio={type: multi_window}",
                "--processors.audio={type: multi_window, window_lengths: [512]}",
            ],
            "'audio': the encoder takes num_windows=3, but the processor gives num_windows=1",
        ),
        (
            ["--modalities.audio={type: mlp, input_size: 4}", "--processors.audio={type: ivector, size: 5}"],
            "'audio': the encoder takes input_size=4, but the processor gives output_size=5",
        ),
        (
            ["--modalities.visual={type: timm, architecture: resnet18}", "--processors.visual={type: optical_flow}"],
            "'visual': the encoder takes in_channels=3, but the processor gives num_channels=2",
        ),
        (
            ["--lr_multipliers", '{"encoders.audi": 5}'],
            "no parameter in 'encoders.audi'.*Did you mean 'encoders.audio'",
        ),
        (["--head_init_std", "0"], "head_init_std must be a number above 0"),
        (["--processors.text", "{type: tokens, tokenizer: /nowhere}"], "nowhere"),
        (["--metric_for_best_model", "acuracy"], "Did you mean 'accuracy'"),
        (["--metric_for_best_model", "accuracy_vsual"], "Did you mean 'accuracy_visual'"),
        (["--optim_args", "momentun=0.9"], "Did you mean 'momentum'"),
        (["--optim_args", "momentum"], "key=value"),
        (["--optim_args", "momentum=much"], "momentum must be a number"),
        (["--model_name_or_path", "/nowhere/at/all"], "is not a checkpoint"),
        (["--output_dir", __file__], "is a file"),
    ],
)
def test_refused(parse, arguments, message):
    with pytest.raises(ValueError, match=message):
        checks.check_recipe(parse(*arguments))


@pytest.mark.parametrize("metric", ["accuracy", "eval_accuracy", "loss", "f1_binary", "eval_accuracy_audio"])
def test_metrics_with_and_without_prefix(parse, metric):
    checks.check_recipe(parse("--metric_for_best_model", metric))


def test_a_metric_of_two_classes_is_refused_for_ten(parse):
    with pytest.raises(ValueError, match="f1_binary"):
        checks.check_best_metric(parse("--metric_for_best_model", "f1_binary"), ["audio"], 10)


def test_a_modulation_that_cannot_work_with_the_model(parse, monkeypatch):
    class NeedsThree(Modulation):
        name = "needs_three"
        phase = "drop"

        def attach(self, run):
            if len(run.model.encoders) < 3:
                raise ValueError(f"{self.name} needs three modalities, found {list(run.model.encoders)}.")

    monkeypatch.setitem(MODULATIONS, "needs_three", NeedsThree)
    with pytest.raises(ValueError, match=r"needs three modalities, found \['audio', 'visual'\]"):
        checks.check_recipe(parse("--modulations", '{"needs_three": {}}'))


def test_an_interaction_of_encoders_on_the_hub_is_left_for_later(parse):
    hub = "{type: timm, architecture: 'hf-hub:some/model'}"
    checks.check_model(parse("--modalities.audio", hub, "--interaction", "mmtm"))
    with pytest.raises(ValueError, match="Did you mean 'mmtm'"):
        checks.check_model(parse("--modalities.audio", hub, "--interaction", "mmtn"))


def test_an_encoder_on_the_hub_is_not_downloaded(parse, monkeypatch):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    recipe = parse("--modalities.audio", "{type: transformers, model: some/model, pretrained: true}")
    checks.check_model(recipe)


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"architecture": "resnet18", "pretrained": True}, False),
        ({"architecture": "hf-hub:some/model"}, True),
        ({"model": "some/model"}, True),
        ({"model": "/"}, False),
        ({"model": None, "config": {"model_type": "bert"}}, False),
    ],
)
def test_on_hub(options, answer):
    assert checks.on_hub(options) == answer


def test_nor_are_timms_weights(parse, monkeypatch):
    monkeypatch.setattr("timm.models._builder.load_pretrained", None)
    checks.check_model(parse("--modalities.audio", "{type: timm, architecture: resnet18, pretrained: true}"))


def test_other_optimizers_keep_their_options(parse):
    checks.check_recipe(parse("--optim", "adamw_torch", "--optim_args", "beta1=0.8"))


@pytest.mark.parametrize("value", ["false", "no", ""])
def test_no_resume(parse, value):
    recipe = parse("--resume_from_checkpoint", value)
    assert checks.resume_point(recipe) is None
    checks.check_resume([recipe])


def write_checkpoint(folder):
    """A sealed one with a single file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text("all of them")
    seal_checkpoint(folder)
    (folder / "trainer_state.json").write_text('{"global_step": 0}')
    return folder


def test_auto_is_both_first_start_and_restart(parse, tmp_path):
    recipe = parse("--resume_from_checkpoint", "auto")
    checks.check_resume([recipe])
    assert checks.resume_point(recipe) is None
    folder = write_checkpoint(tmp_path / "out" / "checkpoint-3")
    checks.check_resume([recipe])
    assert checks.resume_point(recipe) == str(folder)


@pytest.mark.parametrize("value", ["true", "last", "latest"])
def test_resume_from_the_newest_complete_checkpoint(parse, tmp_path, value):
    recipe = parse("--resume_from_checkpoint", value)
    with pytest.raises(ValueError, match=r"expected a complete checkpoint-STEP, found none in .*out\. Use .*=auto"):
        checks.check_resume([recipe])
    for step in (9, 10, 11):
        folder = write_checkpoint(tmp_path / "out" / f"checkpoint-{step}")
        if step == 11:
            (folder / "trainer_state.json").unlink()
    with pytest.warns(UserWarning, match="skipped: checkpoint-11 "):
        checks.check_resume([recipe])
        assert checks.resume_point(recipe) == str(tmp_path / "out" / "checkpoint-10")


@pytest.mark.parametrize("value", ["auto", "last"])
def test_the_newest_checkpoint_of_another_training_is_refused(parse, tmp_path, value):
    folder = write_checkpoint(tmp_path / "out" / "checkpoint-10")
    first = parse("--resume_from_checkpoint", value)
    (tmp_path / "out" / "training.json").write_text(json.dumps(checks.training_identity(first)))
    assert checks.resume_point(first) == str(folder)
    for option in (("--learning_rate", "1e-6"), ("--seed", "7")):
        other = parse("--resume_from_checkpoint", value, *option)
        with pytest.raises(ValueError, match=r"checkpoint-10 is of a training with other options"):
            checks.check_resume([other])
        named = parse("--resume_from_checkpoint", str(folder), *option)  # on purpose
        assert checks.resume_point(named) == str(folder) and checks.goes_on_from_another(named, folder)


def test_resume_from_a_given_folder(parse, tmp_path):
    recipe = parse("--resume_from_checkpoint", str(tmp_path))
    with pytest.raises(ValueError, match=r"no weights, .*1 more.*`auto`"):
        checks.check_resume([recipe])
    write_checkpoint(tmp_path)
    assert checks.resume_point(recipe) == str(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"global_')
    with pytest.raises(ValueError, match=r"trainer_state\.json is damaged"):
        checks.check_resume([recipe])


def test_an_interrupted_series_goes_on(parse, tmp_path):
    """One finished run, one that never began: the first is reused, the second starts anew."""
    first, second = parse("--resume_from_checkpoint", "last"), parse("--resume_from_checkpoint", "last")
    second.training.output_dir = str(tmp_path / "second")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "metrics.json").write_text("{}")
    checks.check_resume([first, second])
    assert checks.resume_point(second) is None
