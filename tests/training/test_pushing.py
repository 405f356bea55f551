"""Every strategy pushes what it should, and no failure of the Hub stops a training."""

from __future__ import annotations

import inspect
import io
import json
import shlex
import warnings

import pytest
from datasets import ClassLabel
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load
from tiny import tiny_dataset, tiny_model
from transformers import Trainer, TrainerCallback

from hf_bml import MultimodalBalancedTrainer, MultimodalProcessor
from hf_bml.commands.push import main as push_main
from hf_bml.figures import curves
from hf_bml.hub.card_metadata import CardOptions
from hf_bml.hub.push import PushError

PUSH = {"push_to_hub": True, "hub_model_id": "user/run", "save_strategy": "steps", "save_steps": 4}
PROCESSORS = {
    "audio": {"type": "features", "input_size": 5},
    "visual": {"type": "features", "input_size": 7},
}
ATTEMPTS = 6  # of huggingface_hub, for one request; of many files it then tries parts, so that code is left out
OF_THE_MODEL = {"README.md", "config.json", "curves.png", "model.safetensors", "processor_config.json"}


@pytest.fixture(autouse=True)
def plot_curves(monkeypatch):
    """The function, in whose place trainings get a small picture: drawing takes longer than such a training."""
    function = curves.plot_curves
    monkeypatch.setattr(curves, "plot_curves", lambda *arguments: Image.new("RGB", (3, 3)).save(arguments[2]))
    return function


def make_trainer(training_args, **options):
    data = tiny_dataset()
    return MultimodalBalancedTrainer(
        tiny_model(),
        training_args(**{**PUSH, **options}),
        train_dataset=data,
        eval_dataset=data,
        compute_metrics=lambda _: {"accuracy": 0.5},
        processing_class=MultimodalProcessor(PROCESSORS),
    )


def pushed(hub, repo_id="user/run", position=-1):
    return hub.repositories["model", repo_id][position]


def without_code(files):
    """Names of the files, of which some must be code."""
    names = {name for name in files if not name.startswith("hf_bml_code/")}
    assert len(names) < len(files)
    return names


def same_weights(files, model):
    weights = load(files["model.safetensors"])
    return all(weights[name].equal(weight) for name, weight in model.state_dict().items())


@pytest.mark.filterwarnings("error:Not pushed")
def test_every_save_and_the_end(own_hub, training_args, monkeypatch, plot_curves):
    monkeypatch.setattr(curves, "plot_curves", plot_curves)
    trainer = make_trainer(training_args, hub_always_push=True, eval_strategy="steps", eval_steps=4)
    trainer.card_options = CardOptions(license="mit")
    trainer.train()
    assert own_hub.messages == [*(f"Training in progress, step {step}" for step in (4, 8)), "End of training"]
    first, last = pushed(own_hub, position=1), pushed(own_hub)
    assert without_code(first) == without_code(last) == OF_THE_MODEL
    assert Image.open(io.BytesIO(last["curves.png"])).size[0] > 500
    assert not same_weights(first, trainer.model) and same_weights(last, trainer.model)
    during, after = (ModelCard(files["README.md"].decode()) for files in (first, last))
    assert "The training is still running**: these are the weights of step 4 of 8." in during.text
    assert "still running" not in after.text and after.data.license == "mit"
    assert 'AutoModel.from_pretrained("user/run")' in after.text and "pip install ." in after.text
    assert 'AutoModel.from_pretrained("user/run", trust_remote_code=True)' in after.text
    assert json.loads(last["config.json"])["id2label"]["2"] == "LABEL_2"
    assert json.loads(last["processor_config.json"])["modalities"] == PROCESSORS


@pytest.mark.parametrize(
    ("strategy", "folders"),
    [("end", set()), ("checkpoint", {"last-checkpoint"}), ("all_checkpoints", {"checkpoint-4", "checkpoint-8"})],
)
def test_strategies(own_hub, training_args, tmp_path, strategy, folders):
    trainer = make_trainer(training_args, hub_strategy=strategy, hub_always_push=True, hub_token=own_hub.token)
    trainer.train()
    assert len(own_hub.messages) == (1 if strategy == "end" else 3)
    files = pushed(own_hub)
    assert {name.split("/")[0] for name in files if "/" in name} == {*folders, "hf_bml_code"}
    assert {name for name in files if "/" not in name} == OF_THE_MODEL
    for folder in folders:
        state = json.loads(files[f"{folder}/trainer_state.json"])
        assert state["global_step"] in (4, 8) and f"{folder}/optimizer.pt" in files
    everything = b"".join(files.values())
    assert own_hub.token.encode() not in everything and str(tmp_path).encode() not in everything
    assert not list((tmp_path / "run").glob(".push-*"))


def test_a_training_goes_on_from_a_pushed_checkpoint(own_hub, training_args, tmp_path):
    trainer = make_trainer(training_args, hub_strategy="checkpoint", max_steps=4)
    trainer.train()
    folder = tmp_path / "again" / "checkpoint-4"
    folder.mkdir(parents=True)
    for name, data in pushed(own_hub).items():
        if name.startswith("last-checkpoint/"):
            (folder / name.removeprefix("last-checkpoint/")).write_bytes(data)
    again = make_trainer(training_args, push_to_hub=False, output_dir=str(folder.parent), max_steps=6)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6


class WaitForPush(TrainerCallback):
    """Ends a push before the next begins, however fast the training is."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        if self.trainer.push_in_progress is not None:
            self.trainer.push_in_progress.wait_until_done()


def run_with_failures(hub, training_args, failures, one_by_one=False, **options):
    hub.failures += failures
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(training_args, **options)
        if one_by_one:
            trainer.add_callback(WaitForPush(trainer))
        trainer.train()
    return trainer, [str(w.message) for w in caught if str(w.message).startswith("Not pushed to the Hub")]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (("POST", "/commit/", 500, True), "HTTP 500"),
        (("POST", "/commit/", None, True), "the connection to the Hub failed"),
        (("POST", "/repos/create", 401, True), "HTTP 401"),
        (("POST", "/preupload/", 403, True), "HTTP 403"),
    ],
)
def test_a_hub_that_never_works_costs_one_warning(own_hub, training_args, tmp_path, capsys, failure, reason):
    trainer, messages = run_with_failures(own_hub, training_args, [failure])
    assert trainer.state.global_step == 8
    [message] = messages
    command = f"hf-bml push {tmp_path / 'run'} --repo-id user/run"
    assert reason in message and message.endswith(f"The run is kept; push it later with: {command}")
    assert not own_hub.messages
    own_hub.failures.clear()
    assert push_main(shlex.split(command)[2:]) == 0
    assert without_code(pushed(own_hub)) == OF_THE_MODEL
    assert f"pushed to {own_hub.endpoint}/user/run" in capsys.readouterr().out


def test_a_hub_that_fails_in_the_middle_gets_the_later_pushes(own_hub, training_args):
    failures = [("POST", "/commit/", 500)] * ATTEMPTS
    options = {"hub_always_push": True, "push_code": False}
    trainer, messages = run_with_failures(own_hub, training_args, failures, one_by_one=True, **options)
    assert len(messages) == 1 and "HTTP 500" in messages[0]
    assert own_hub.messages == ["Training in progress, step 8", "End of training"]
    assert trainer.state.global_step == 8


def test_without_network_the_training_runs(training_args):
    trainer, messages = run_with_failures(type("Hub", (), {"failures": []}), training_args, [])
    assert trainer.state.global_step == 8
    assert len(messages) == 1 and "offline mode" in messages[0]


def test_somebody_elses_repository(own_hub, training_args):
    trainer, messages = run_with_failures(own_hub, training_args, [], hub_model_id="other/run")
    assert trainer.state.global_step == 8
    assert len(messages) == 1 and "is the name of the repository your own?" in messages[0]


def test_what_the_user_asks_for_raises(own_hub, training_args):
    trainer = make_trainer(training_args, push_to_hub=False, hub_model_id=None, max_steps=1, push_code=False)
    trainer.train()
    assert not own_hub.repositories
    own_hub.failures += [("POST", "/commit/", 500)] * ATTEMPTS
    with pytest.raises(PushError, match=r"HTTP 500\)\. The run is kept; push it later with: hf-bml push"):
        trainer.push_to_hub()
    commit = trainer.push_to_hub("My message", private=True, license="mit", dataset="My clips", tags="own")
    assert commit.repo_url.repo_id == "user/run" and own_hub.messages == ["My message"]
    card = ModelCard(pushed(own_hub)["README.md"].decode())
    assert card.data.license == "mit" and "own" in card.data.tags and "My clips" in card.text
    assert trainer.push_to_hub("In the background", blocking=False, revision="tried").result().oid
    assert own_hub.branches["model", "user/run"] == {"main": 1, "tried": 2}


def test_saving_the_model_pushes_it_and_survives_a_failure(own_hub, training_args, tmp_path):
    trainer = make_trainer(training_args, save_strategy="no", max_steps=1, push_code=False)
    trainer.train()
    own_hub.failures += [("POST", "/commit/", 500)] * ATTEMPTS
    with pytest.warns(UserWarning, match=r"Not pushed to the Hub: .*HTTP 500"):
        trainer.save_model()
    assert (tmp_path / "run" / "model.safetensors").is_file()
    next(trainer.model.parameters()).data.add_(1)
    trainer.save_model()
    assert own_hub.messages == ["End of training", "Model save"]


def test_a_card_that_cannot_be_written_is_no_reason_to_stop(own_hub, training_args):
    trainer = make_trainer(training_args)
    trainer.card_options = CardOptions(dataset_ids=5)
    with pytest.warns(UserWarning, match="Not pushed to the Hub"):
        trainer.train()
    assert trainer.state.global_step == 8


@pytest.mark.parametrize("name", ["create_model_card", "push_to_hub", "init_hf_repo", "save_model"])
def test_whoever_calls_the_trainer_finds_its_signatures(name):
    own, original = (inspect.signature(getattr(owner, name)) for owner in (MultimodalBalancedTrainer, Trainer))
    assert {key: p.default for key, p in own.parameters.items()} == {
        key: p.default for key, p in original.parameters.items()
    }


def test_model_and_processor_by_themselves(own_hub):
    model = tiny_model()
    model.push_to_hub("parts", tags=["mine"])
    MultimodalProcessor(PROCESSORS).push_to_hub("user/parts")
    files = pushed(own_hub, "user/parts")
    assert {"config.json", "model.safetensors", "processor_config.json"} <= set(files)
    assert same_weights(files, model)
    card = ModelCard(files["README.md"].decode())
    assert "[More Information Needed]" not in card.text and "pip install ." in card.text
    assert card.data.library_name == "hf_bml" and {"audio", "visual", "mine"} <= set(card.data.tags)
    own_hub.add("model", "user/parts", {"README.md": b"# Mine"})
    model.push_to_hub("parts")
    assert b"# Mine" in pushed(own_hub, "user/parts")["README.md"]


def test_without_code(own_hub, training_args, capsys):
    failures = [("POST", "/repos/create", 401, True)]
    trainer, [message] = run_with_failures(own_hub, training_args, failures, push_code=False, max_steps=1)
    own_hub.failures.clear()
    assert message.endswith("--repo-id user/run --without-code")
    trainer.push_to_hub()
    assert "trust_remote_code" not in pushed(own_hub)["README.md"].decode()
    assert push_main(shlex.split(message.partition("hf-bml push ")[2])) == 0
    assert not any(name.startswith("hf_bml_code/") for name in pushed(own_hub))


def test_class_names_of_the_data_reach_the_model(training_args):
    data = tiny_dataset().cast_column("labels", ClassLabel(names=["dog", "bell", "rain"]))
    for num_labels, id2label, expected in [
        (3, None, "bell"),
        (4, None, "LABEL_1"),
        (3, {0: "a", 1: "b", 2: "c"}, "b"),
    ]:
        model = tiny_model(num_labels=num_labels, **({} if id2label is None else {"id2label": id2label}))
        MultimodalBalancedTrainer(model, training_args(), train_dataset=data)
        assert model.config.id2label[1] == expected
