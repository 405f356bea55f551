from __future__ import annotations

import pytest
import torch

from hf_bml import MODULATIONS, Modulation
from hf_bml.study import checks, metric_checks, model_checks


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
        (["--processors.text", "{type: tokens, tokenizer: /nowhere}"], "the tokenizer '/nowhere' .* no such folder"),
        (
            ["--modalities.text={type: lstm, vocab_size: 9}", "--processors.text={type: tokens}"],
            "'text': type 'tokens' needs the option 'tokenizer'",
        ),
        (["--processors.audio.duration", "3s"], r"'audio': duration must be float \| null, found '3s'"),
        (["--processors.audio.window_length", "'128'"], r"window_length must be int \| null, found '128'"),
        (["--report_to", "wandb"], "report_to: wandb is not installed. pip install wandb, or .* report_to: none"),
        (["--metric_for_best_model", "acuracy"], "Did you mean 'accuracy'"),
        (["--metric_for_best_model", "accuracy_vsual"], "Did you mean 'accuracy_visual'"),
        (["--optim_args", "momentun=0.9"], "Did you mean 'momentum'"),
        (["--optim_args", "momentum"], "key=value"),
        (["--optim_args", "momentum=much"], "momentum must be a number"),
        (["--model_name_or_path", "/nowhere/at/all"], "is not a checkpoint"),
        (["--output_dir", __file__], "is a file"),
    ],
)
def test_refused(parse, arguments, message, monkeypatch):
    monkeypatch.setattr(checks, "get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(ValueError, match=message):
        checks.check_recipe(parse(*arguments))


@pytest.mark.parametrize("metric", ["accuracy", "eval_accuracy", "loss", "f1_binary", "eval_accuracy_audio"])
def test_metrics_with_and_without_prefix(parse, metric):
    checks.check_recipe(parse("--metric_for_best_model", metric))


def test_a_metric_of_two_classes_is_refused_for_ten(parse):
    with pytest.raises(ValueError, match="f1_binary"):
        metric_checks.check_best_metric(parse("--metric_for_best_model", "f1_binary"), ["audio"], 10)


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
    model_checks.check_model(parse("--modalities.audio", hub, "--interaction", "mmtm"))
    with pytest.raises(ValueError, match="Did you mean 'mmtm'"):
        model_checks.check_model(parse("--modalities.audio", hub, "--interaction", "mmtn"))


def test_an_encoder_on_the_hub_is_not_downloaded(parse, monkeypatch):
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", None)
    recipe = parse("--modalities.audio", "{type: transformers, model: some/model, pretrained: true}")
    model_checks.check_model(recipe)


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
    assert model_checks.on_hub(options) == answer


def test_nor_are_timms_weights(parse, monkeypatch):
    monkeypatch.setattr("timm.models._builder.load_pretrained", None)
    model_checks.check_model(parse("--modalities.audio", "{type: timm, architecture: resnet18, pretrained: true}"))


def test_other_optimizers_keep_their_options(parse):
    checks.check_recipe(parse("--optim", "adamw_torch", "--optim_args", "beta1=0.8"))
