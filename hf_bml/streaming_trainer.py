"""`transformers.Trainer` that reads streams without a gap, a repetition or an overlap between processes."""

from __future__ import annotations

from typing import Any

import datasets
from accelerate.data_loader import prepare_data_loader
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from .streamed_rows import EndlessStream, EvaluationBatches, stream_loader


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
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        shards = split_dataset_by_node(dataset, rank, processes).num_shards
        loader = stream_loader(EndlessStream(dataset, seed, rank, processes), shards, **options)
        return prepare_data_loader(  # to the device, and not split once more
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
        )

    def evaluation_loop(self, dataloader: DataLoader | EvaluationBatches, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        if isinstance(dataloader, EvaluationBatches):
            self.gather_function = dataloader.gather  # until the end of the loop
        return super().evaluation_loop(dataloader, *args, **kwargs)
