"""`transformers.Trainer` that reads streams without a gap, a repetition or an overlap between processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import datasets
from accelerate.data_loader import prepare_data_loader
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from .epochs import rows_of
from .streamed_rows import EndlessStream, EvaluationBatches, collate_unless_skipped, stream_loader


class StreamingTrainer(Trainer):
    """Trains and evaluates on a `datasets.IterableDataset`.

    The Trainer itself would read, decode and send every process's rows in the main process, leave the gradients of an
    unfinished accumulation at the end of a pass to the next one, and on resuming count batches beyond a pass wrongly.
    Here every process reads a part of its own (see `streamed_rows`), and the training is one epoch of `max_steps`
    optimizer steps over an endless stream.
    """

    def _get_dataloader(
        self, dataset: Dataset, description: str, batch_size: int, *args: Any, is_training: bool = False, **kwargs: Any
    ) -> DataLoader | EvaluationBatches:
        if not isinstance(dataset, datasets.IterableDataset):
            return super()._get_dataloader(dataset, description, batch_size, *args, is_training=is_training, **kwargs)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        if processes > 1 and dataset._distributed is not None:
            raise ValueError(
                f"{description}: expected the whole stream, found a part of it (split_dataset_by_node). Leave that "
                "out: the trainer gives each process a part of its own."
            )
        options = {
            "batch_size": batch_size,
            "collate_fn": self._get_collator_with_removed_columns(self.data_collator, description=description),
            "num_workers": self.args.dataloader_num_workers,
            "pin_memory": self.args.dataloader_pin_memory,
            "prefetch_factor": self.args.dataloader_prefetch_factor,
            "multiprocessing_context": self.args.dataloader_multiprocessing_context,
        }
        if not is_training:
            return EvaluationBatches(dataset, self.accelerator, **options)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        shards = split_dataset_by_node(dataset, rank, processes).num_shards
        stream = EndlessStream(dataset, seed, rank, processes, batch_size)
        options["collate_fn"] = partial(collate_unless_skipped, options["collate_fn"])
        loader = stream_loader(stream, shards, **options)
        return prepare_data_loader(  # to the device, and not split once more
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
        )

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        stream = rows_of(kwargs["train_dataloader"])
        if isinstance(stream, EndlessStream):  # the Trainer drops these batches
            stream.skipped_batches = kwargs["steps_trained_in_current_epoch"]
        super()._run_epoch(*args, **kwargs)

    def evaluation_loop(self, dataloader: DataLoader | EvaluationBatches, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        if isinstance(dataloader, EvaluationBatches):
            self.gather_function = dataloader.gather  # until the end of the loop
        return super().evaluation_loop(dataloader, *args, **kwargs)
