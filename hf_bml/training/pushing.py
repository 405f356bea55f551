"""A trainer that pushes to the Hub with a card of its own, and never aborts training when a push fails."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers.trainer_utils import HubStrategy, TrainOutput
from transformers.utils import PushInProgress

from ..ground.disk import disk_errors_named
from ..hub.card import write_card
from ..hub.card_metadata import CardOptions
from ..hub.hidden_paths import public_path
from ..hub.push import PushError, make_repository, push, with_command
from ..hub.remote_code import own_config_class
from ..hub.staging import stage
from .card_facts import MultimodalTrainer, facts_of_trainer
from .training_args import BalancedTrainingArguments

STAGING_PREFIX = ".push-"


class PushingTrainer(MultimodalTrainer):
    """Pushes model, processor, card, curves and, with `push_code`, code: with `push_to_hub` in the arguments in the
    background at every save, as `hub_strategy` says, and at the end of `train()`.

    Where the Trainer raises or is silent, a failed push gives a warning that says what failed and how to push
    later; the next save tries again. Only `push_to_hub()`, which the user calls, raises.

    Attributes:
        card_options: what the card says beyond what the run tells; see [`CardOptions`](../hub/card_metadata.py).
    """

    card_options: CardOptions | None = None
    push_in_progress: PushInProgress | None = None
    _reported_failure: str | None = None

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        result = super().train(*args, **kwargs)
        if self.args.push_to_hub and self.hp_search_backend is None:
            self._push_or_warn("End of training")
        return result

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call=True)
        if self.args.push_to_hub and not _internal_call:
            self._push_or_warn("Model save")

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in Trainer, but an error of the Hub is a warning, and the first push creates the repository."""
        if not self.is_world_process_zero():
            return
        for left in Path(self.args.output_dir).glob(f"{STAGING_PREFIX}*"):  # of a training that was killed
            shutil.rmtree(left, ignore_errors=True)
        self.hub_model_id = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        self.push_in_progress = None
        try:
            self.hub_model_id = make_repository(self.hub_model_id, **self._push_options(token, private=private))
        except PushError as error:
            self._warn_of_failure(str(error))

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Writes `README.md` and `curves.png` into `output_dir`, about the model as it is now.

        Args:
            language, license, tags, model_name: for the metadata.
            finetuned_from: the base model.
            tasks: the task of the results (the first one); default multimodal-classification.
            dataset_tags: Hub ids of the data.
            dataset: their readable name.
            dataset_args: arguments of the evaluation, for the metadata.
        """
        if not self.is_world_process_zero():
            return
        given = {
            "language": language,
            "license": license,
            "tags": as_list(tags),
            "base_model": finetuned_from,
            "task": next(iter(as_list(tasks)), None),
            "dataset_ids": as_list(dataset_tags),
            "dataset": ", ".join(as_list(dataset)) or None,
            "dataset_args": {"args": as_list(dataset_args)} if dataset_args else None,
        }
        self._write_card(self.args.output_dir, model_name, **{key: value for key, value in given.items() if value})

    def _write_card(self, folder: str | Path, model_name: str | None = None, **given: Any) -> None:
        source = self.hub_model_id or public_path(self.args.output_dir)
        known = vars(self.card_options) if self.card_options is not None else {}
        facts = facts_of_trainer(self, model_name)
        code = self._pushes_code and facts.adapter_base is None and own_config_class(facts.config) is not None
        options = CardOptions(**{**known, "source": known.get("source") or source, "code": code, **given})
        with disk_errors_named(self.args.output_dir):
            write_card(facts, folder, options)

    @property
    def _pushes_code(self) -> bool:
        return isinstance(self.args, BalancedTrainingArguments) and self.args.push_code

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Any:
        """As in Trainer: saves the model into `output_dir` and pushes it from there.

        Args:
            commit_message: of the commit.
            blocking: wait for the end of the upload.
            token, revision, private: default those of the arguments.
            kwargs: for `create_model_card`.

        Returns:
            the commit, or a future of it; None on other processes than the main one.

        Raises:
            PushError: what failed, and how to push later.
        """
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:  # the arguments do not say push_to_hub
            self.hub_model_id = self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        self.create_model_card(**kwargs)
        options = self._push_options(token, revision, private)
        try:
            staged = self._staged(self.args.output_dir)
            message = commit_message or "End of training"
            if not blocking:
                return HfApi().run_as_future(push, staged, self.hub_model_id, message, delete=True, **options)
            commit = push(staged, self.hub_model_id, message, delete=True, **options)
        except PushError as error:
            raise PushError(self._with_command(str(error), options)) from error
        self._reported_failure = None
        self.hub_model_id = commit.repo_url.repo_id
        return commit

    def _push_or_warn(self, message: str) -> None:
        try:
            self.push_to_hub(message)
        except PushError as error:
            self._warn(str(error))
        except Exception as error:  # such as a full disk: the results of the training matter more
            self._warn_of_failure(str(error))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Pushes a checkpoint in the background, unless the last push is still under way."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if running and not self.args.hub_always_push:
            return
        if not running:
            self._report_pushes()
        names = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: Path(checkpoint_folder).name}
        name = names.get(self.args.hub_strategy)
        try:
            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            staged = self._staged(checkpoint_folder, [(checkpoint_folder, name)] if name else [])
            self._write_card(staged)
        except Exception as error:  # whatever it is, the training is worth more
            self._warn_of_failure(str(error))
            return
        message = f"Training in progress, step {self.state.global_step}"
        job = HfApi().run_as_future(push, staged, self.hub_model_id, message, delete=True, **self._push_options())
        if self.push_in_progress is None or not running:
            self.push_in_progress = PushInProgress([job])
        else:
            self.push_in_progress.jobs.append(job)

    def _finish_current_push(self) -> None:
        super()._finish_current_push()
        self._report_pushes()

    def _report_pushes(self) -> None:
        """Warns of what the pushes in the background ran into, and forgets them."""
        pushes, self.push_in_progress = self.push_in_progress, None
        for job in pushes.jobs if pushes is not None else ():
            error = job.exception()
            if error is None:
                self._reported_failure = None
            else:
                self._warn_of_failure(str(error))

    def _push_options(
        self, token: str | None = None, revision: str | None = None, private: bool | None = None
    ) -> dict[str, Any]:
        return {
            "token": token if token is not None else self.args.hub_token,
            "revision": revision if revision is not None else self.args.hub_revision,
            "private": private if private is not None else self.args.hub_private_repo,
        }

    def _staged(self, folder: str | Path, checkpoints: Sequence[tuple[str | Path, str]] = ()) -> Path:
        with disk_errors_named(self.args.output_dir):
            staged = tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=self.args.output_dir)  # hard links need one disk
            try:
                return stage(folder, staged, checkpoints, self._pushes_code)
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise

    def _with_command(self, failure: str, options: Mapping[str, Any]) -> str:
        where = {"private": options["private"], "revision": options["revision"], "code": self._pushes_code}
        return with_command(failure, self.args.output_dir, self.hub_model_id, **where)

    def _warn_of_failure(self, failure: str) -> None:
        self._warn(self._with_command(failure, self._push_options()))

    def _warn(self, message: str) -> None:
        """One warning for one reason, however often the pushes fail for it in a row."""
        if message != self._reported_failure:
            warnings.warn(f"Not pushed to the Hub: {message}", stacklevel=2)
        self._reported_failure = message


def as_list(value: str | list[str] | None) -> list[str]:
    """A list of strings, of which one may be given alone."""
    return [value] if isinstance(value, str) else list(value or [])
