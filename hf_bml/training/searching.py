"""`transformers.Trainer` whose search for hyper-parameters reaches the options of modulations."""

from __future__ import annotations

import copy
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import HPSearchBackend

from ..modulation import Modulation
from .training_args import DICT_FIELDS, BalancedTrainingArguments, own_arguments


class SearchingTrainer(Trainer):
    """Follows a search over `modulations` and `lr_multipliers`.

    Attributes:
        given_modulations: modulation objects that take precedence over the arguments; None if there are none.
    """

    given_modulations: list[Modulation] | None = None
    _modulations_before_search: Any = None

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`; `hp_space` may also return options of modulations, by their dotted names, or all of them.

        Every trial starts from `args.modulations` as they are before the search. Mappings may be JSON strings, because
        optuna chooses among strings:

            def hp_space(trial):
                return {"modulations.opm.q_base": trial.suggest_float("modulations.opm.q_base", 0.1, 0.9)}

            def hp_space(trial):
                return {"modulations": trial.suggest_categorical("modulations", ['{"opm": {}}', '{"ogm": {}}'])}

        `setattr(trainer.args, name, value)` for each of the best run's `hyperparameters` trains with them.

        Raises:
            ValueError: a trial asks for an option that does not exist, or for modulations although the trainer was
                built with modulation objects.
        """
        self._modulations_before_search = copy.deepcopy(own_arguments(self.args).modulations)
        return super().hyperparameter_search(*args, **kwargs)

    def _hp_search_setup(self, trial: Any) -> None:
        if self.hp_search_backend is None or trial is None:
            super()._hp_search_setup(trial)
            return
        is_optuna = self.hp_search_backend == HPSearchBackend.OPTUNA
        asked = dict(self.hp_space(trial) if is_optuna else trial)
        ours = [name for name in sorted(asked) if name in DICT_FIELDS or name.startswith("modulations.")]
        own = {name: asked.pop(name) for name in ours}
        if own and not isinstance(self.args, BalancedTrainingArguments):
            raise ValueError(f"A search over {list(own)} needs BalancedTrainingArguments, found TrainingArguments.")
        if self.given_modulations is not None and any(name.startswith("modulations") for name in own):
            raise ValueError(
                f"A search over {list(own)} cannot change the modulation objects that the trainer was built with. "
                "Describe them in BalancedTrainingArguments(modulations=...) instead."
            )
        if isinstance(self.args, BalancedTrainingArguments):
            self.args.modulations = copy.deepcopy(self._modulations_before_search)
        for name, value in own.items():
            setattr(self.args, name, value)
        space, self.hp_space = self.hp_space, lambda _: asked  # what the Trainer can set, cast to the type it has
        try:
            super()._hp_search_setup(trial if is_optuna else asked)
        finally:
            self.hp_space = space
