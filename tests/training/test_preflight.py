from __future__ import annotations

from types import SimpleNamespace

import datasets
import pytest
import torch
from tiny import TINY_BERT, tiny_dataset, tiny_model
from torch import nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertModel

from hf_bml import (
    OGM,
    OPM,
    BalancedTrainingArguments,
    MultimodalBalancedTrainer,
    MultimodalConfig,
    MultimodalDataCollator,
    MultimodalForClassification,
    balance,
)
from hf_bml.models.encoders.build import token_limits
from hf_bml.modulation import GradientBlending, Greedy, ModulationStack
from hf_bml.processing.tensor_storage import encode_value
from hf_bml.training.needs import check_parallelism


def trainer(training_args, **options):
    return MultimodalBalancedTrainer(tiny_model(), training_args(**options.pop("args", {})), **options)


@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_missing_column(training_args, which):
    dataset = tiny_dataset().rename_column("audio", "sound")
    with pytest.raises(ValueError, match=rf"{which} lacks the columns \['audio'\].*found \['sound', 'visual'"):
        trainer(training_args, **{which: dataset})


@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_raw_columns_need_a_processor_and_a_collator(training_args, which):
    raw = datasets.Dataset.from_dict(
        {"audio": [{"bytes": b"", "path": "a.wav"}], "visual": [[0.5]], "labels": [0]}  # as undecoded media are
    )
    with pytest.raises(ValueError, match=rf"{which}: .* found dict in 'audio'\. .*MultimodalProcessor.*DataCollator"):
        trainer(training_args, **{which: raw})
    trainer(training_args, **{which: raw}, data_collator=lambda rows: {})  # of one's own: it may know what to do
    trainer(training_args, eval_dataset=raw.remove_columns("audio").add_column("audio", [None]))


def test_empty_split(training_args):
    with pytest.raises(ValueError, match="train_dataset is empty"):
        trainer(training_args, train_dataset=tiny_dataset().select([]))
    with pytest.raises(ValueError, match=r"eval_dataset\['a'\] is empty"):
        trainer(training_args, eval_dataset={"a": []})


@pytest.mark.parametrize(("label", "row"), [(3, 5), (-1, 0)])
def test_label_out_of_range(training_args, label, row):
    dataset = tiny_dataset()
    labels = list(dataset["labels"])
    labels[row] = label
    dataset = dataset.remove_columns("labels").add_column("labels", [int(x) for x in labels])
    with pytest.raises(ValueError, match=rf"labels must be in \[0, 3\).*found {label} in row {row}"):
        trainer(training_args, train_dataset=dataset)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["lists", "sequences", "arrays"])
def test_values_that_are_not_finite(training_args, bad, kind):
    rows = tiny_dataset()["visual"][:].tolist()
    rows[7][3] = bad
    rows = rows if kind == "lists" else [[row, row] for row in rows]
    dataset = tiny_dataset().remove_columns("visual").add_column("visual", rows)
    if kind == "arrays":
        dataset = dataset.cast_column("visual", datasets.Array2D((2, 7), "float32"))
    with pytest.raises(ValueError, match=r"train_dataset: column 'visual' .* not finite in row 7"):
        trainer(training_args, train_dataset=dataset)
    trainer(training_args, train_dataset=dataset.select(range(7)))  # the bad row is not in the view
    with pytest.raises(ValueError, match="not finite in row 1"):
        trainer(training_args, train_dataset=dataset.select([0, 7]))


def test_absent_values_are_finite(training_args):
    rows = tiny_dataset()["visual"][:].tolist()
    rows[3] = None
    dataset = tiny_dataset().remove_columns("visual").add_column("visual", rows)
    built = trainer(training_args, train_dataset=dataset)
    assert len(built.train_dataset) == len(rows)


def test_a_missing_label(training_args):
    dataset = tiny_dataset().remove_columns("labels").add_column("labels", [None, *[0] * 31])
    with pytest.raises(ValueError, match="every sample needs a label, found none in 1 rows"):
        trainer(training_args, train_dataset=dataset)


def test_labels_of_segments(training_args):
    whole = tiny_dataset().remove_columns("labels")
    trainer(training_args, train_dataset=whole.add_column("labels", [[0, 2]] * 32))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\).*found \[2 3\] in row 31 \(1 such rows\)"):
        trainer(training_args, train_dataset=whole.add_column("labels", [[0, 2]] * 31 + [[2, 3]]))
    with pytest.raises(ValueError, match="train_dataset: expected one label per sample, or as many in every sample"):
        trainer(training_args, train_dataset=whole.add_column("labels", [[0, 2]] * 31 + [[2]]))


def test_float_labels(training_args):
    dataset = tiny_dataset().cast_column("labels", datasets.Value("float32"))
    with pytest.raises(ValueError, match="labels must be integers"):
        trainer(training_args, train_dataset=dataset)


def test_a_dict_of_evaluation_sets_is_checked(training_args):
    with pytest.raises(ValueError, match=r"eval_dataset\['b'\] is empty"):
        trainer(training_args, eval_dataset={"a": tiny_dataset(), "b": tiny_dataset().select([])})


def test_a_model_without_encoders(training_args):
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="needs a model with `encoders`"):
        MultimodalBalancedTrainer(model, training_args())


def test_data_parallel_is_refused(training_args):
    args = training_args()
    args._n_gpu = 2
    with pytest.raises(ValueError, match="accelerate launch"):
        MultimodalBalancedTrainer(tiny_model(), args)


def stack_of(*modulations):
    return ModulationStack(modulations, ("audio", "visual"))


def parallel(kind: str):
    """Stands in for a trainer that was launched this way."""
    plugin = SimpleNamespace(fsdp_version=2 if kind == "fsdp2" else 1)
    return SimpleNamespace(
        args=SimpleNamespace(n_gpu=2 if kind == "data_parallel" else 1),
        is_deepspeed_enabled=kind == "deepspeed",
        is_fsdp_enabled=kind.startswith("fsdp"),
        accelerator=SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)),
    )


@pytest.mark.parametrize(
    ("kind", "ways_out"),
    [
        ("deepspeed", ["placement: graph", "without noise", "DDP", "FSDP2", "opm"]),
        ("fsdp1", ["fsdp_config: {version: 2}", "DDP", "placement: graph", "without noise", "opm"]),
    ],
)
@pytest.mark.parametrize("noise", ["none", "entry_std"])
def test_gradient_modulations_name_the_ways_out_that_work(kind, ways_out, noise):
    with pytest.raises(ValueError) as error:
        check_parallelism(parallel(kind), stack_of(OPM(), OGM(noise=noise)))
    assert "['ogm']" in str(error.value)
    assert all(way in str(error.value) for way in ways_out)
    check_parallelism(parallel(kind), stack_of(OGM(placement="graph"), OPM()))
    for works in ("ddp", "fsdp2"):
        check_parallelism(parallel(works), stack_of(OGM(noise=noise)))


@pytest.mark.parametrize("modulation", [OPM(), OGM(placement="graph"), OGM()])
def test_nothing_runs_under_data_parallel(modulation):
    with pytest.raises(ValueError, match="accelerate launch"):
        check_parallelism(parallel("data_parallel"), stack_of(modulation))


@pytest.mark.parametrize("kind", ["deepspeed", "fsdp1", "fsdp2"])
@pytest.mark.parametrize("modulation", [Greedy(), GradientBlending()], ids=["greedy", "gradient_blending"])
def test_methods_that_need_the_whole_model_refuse_sharding(kind, modulation):
    with pytest.raises(ValueError, match=rf"\['{modulation.name}'\] need the whole model .* Use DDP"):
        check_parallelism(parallel(kind), stack_of(OPM(), modulation))
    check_parallelism(parallel("ddp"), stack_of(OPM(), modulation))


@pytest.mark.parametrize(
    ("modulations", "message"),
    [
        ({"opm": {"q_base": 1.5}}, r"q_base must be a number in \(0, 1\), found 1.5"),
        ({"ogm": {"alpha": -1}}, "alpha"),
        ({"opn": {}}, "Did you mean 'opm'"),
        (["opm"], "must be a mapping"),
        ("opn", "Did you mean 'opm'"),
        ('{"opm": {"lam": 0}}', "lam"),
    ],
)
def test_bad_modulations_fail_when_the_arguments_are_built(tmp_path, modulations, message):
    with pytest.raises(ValueError, match=message):
        BalancedTrainingArguments(output_dir=str(tmp_path), modulations=modulations, use_cpu=True)


def test_argument_defaults(tmp_path):
    args = BalancedTrainingArguments(output_dir=str(tmp_path), modulations='{"opm": {"q_base": 0.3}}', use_cpu=True)
    assert args.remove_unused_columns is False
    assert args.label_names == ["labels"]
    assert args.modulations == {"opm": {"q_base": 0.3}}


def test_a_collator_in_another_order(training_args):
    model = tiny_model()
    turned = MultimodalDataCollator(["visual", "audio"])
    with pytest.raises(ValueError, match=r"in the order \['visual', 'audio'\], the model has \['audio', 'visual'\]"):
        MultimodalBalancedTrainer(model, training_args(), data_collator=turned)
    MultimodalBalancedTrainer(model, training_args(), data_collator=MultimodalDataCollator(list(model.encoders)))


def test_a_modality_that_every_training_row_lacks(training_args):
    """As `on_error: mask` leaves it where no file can be read; an evaluation may lack it."""
    values = [None] * 32
    dataset = tiny_dataset().remove_columns("visual")
    dataset = dataset.add_column("visual", values, feature=datasets.List(datasets.Value("float32")))
    with pytest.raises(ValueError, match=r"train_dataset: every row lacks 'visual' \(None\).*on_error"):
        trainer(training_args, train_dataset=dataset)
    trainer(training_args, eval_dataset=dataset, data_collator=MultimodalDataCollator(["audio", "visual"]))
    some = datasets.concatenate_datasets([dataset, tiny_dataset().cast(dataset.features)]).with_format("torch")
    trainer(training_args, train_dataset=some, data_collator=MultimodalDataCollator(["audio", "visual"]))
    with pytest.raises(ValueError, match="every row lacks 'visual'"):
        trainer(training_args, train_dataset=some.select(range(32)))  # what the view shows


class Rows(Dataset):
    """A map-style dataset of one's own, with another label in one of its rows."""

    def __init__(self, label, row=20):
        self.rows = [dict(row) for row in tiny_dataset()]
        self.rows[row]["labels"] = label

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


BAD_LABELS = {
    "negative": (torch.tensor(-1), r"must be in \[0, 3\) \(config.num_labels\), found -1"),
    "large": (torch.tensor(3), r"must be in \[0, 3\) \(config.num_labels\), found 3"),
    "float": (torch.tensor(1.0), r"integers in \[0, 3\) \(torch.int64\), found torch.float32"),
    "short": (torch.tensor(1, dtype=torch.int32), r"found torch.int32. Convert them"),
    "bool": (torch.tensor(True), r"found torch.bool"),
    "text": ("cat", r"must be integers in \[0, 3\), found 'cat'"),
}


@pytest.mark.parametrize("kind", sorted(BAD_LABELS))
@pytest.mark.parametrize("split", ["Training", "Evaluation"])
def test_labels_of_a_dataset_class(training_args, kind, split):
    """One clear line when the batch is made, on the CPU."""
    label, message = BAD_LABELS[kind]
    rows = Rows(label, row=0)
    if kind in ("float", "short", "bool"):  # a data type that all rows share
        for row in rows.rows:
            row["labels"] = row["labels"].to(label.dtype)
    args = {"max_steps": 4}
    if split == "Training":
        with pytest.raises(ValueError, match=f"Training data: labels .*{message.removeprefix('must be ')}"):
            trainer(training_args, args=args, train_dataset=rows).train()
    else:
        with pytest.raises(ValueError, match="Evaluation data: labels"):
            trainer(training_args).evaluate(rows)


@pytest.mark.parametrize("workers", [0, 1])
def test_labels_of_a_stream(training_args, workers):
    stream = tiny_dataset().with_format("torch").to_iterable_dataset().map(lambda row: {"labels": row["labels"] - 100})
    args = {"max_steps": 2, "dataloader_num_workers": workers}
    with pytest.raises(ValueError, match=r"Training data: labels must be in \[0, 3\)"):
        trainer(training_args, args=args, train_dataset=stream.with_format("torch")).train()


def test_unlabelled_data_can_be_predicted(training_args):
    assert trainer(training_args).predict(Rows(torch.tensor(-100))).predictions.shape == (32, 3)


def token_model():
    encoders = {
        "text": {"type": "transformers", "config": {**TINY_BERT, "max_position_embeddings": 6}},
        "words": {"type": "lstm", "vocab_size": 9, "hidden_size": 4, "embedding_size": 4},
    }
    return MultimodalForClassification(MultimodalConfig(modalities=encoders, num_labels=2))


def token_rows(text=(1, 2), words=(3,), stored=False):
    def ids(values):
        tensors = {"input_ids": torch.tensor(values), "attention_mask": torch.ones(len(values), dtype=torch.int64)}
        return encode_value(tensors) if stored else {key: value.tolist() for key, value in tensors.items()}

    rows = [{"text": ids([4, 5, 6]), "words": ids([1]), "labels": 0}, {"text": ids(text), "words": None, "labels": 1}]
    rows.append({"text": ids([7]), "words": ids(words), "labels": 1})
    return datasets.Dataset.from_list(rows)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"text": [1] * 7},
            "row 1 of 'text' has 7 tokens, but the encoder of 'text' takes at most 6. .* max_length: 6",
        ),
        ({"text": [1, 50]}, "row 1 of 'text' has the token id 50, .* knows the ids from 0 to 49. Use the tokenizer"),
        ({"words": [1, 9, 2]}, "row 2 of 'words' has the token id 9, .* knows the ids from 0 to 8"),
        ({"words": [-1]}, "row 2 of 'words' has the token id -1"),
    ],
)
def test_tokens_that_an_encoder_does_not_take(training_args, options, message, stored):
    for split in ("train_dataset", "eval_dataset"):
        with pytest.raises(ValueError, match=f"{split}: {message}"):
            MultimodalBalancedTrainer(token_model(), training_args(), **{split: token_rows(**options, stored=stored)})
    fits = token_rows(text=[49] * 6, words=[8] * 99, stored=stored)
    data = {"train_dataset": fits, "eval_dataset": {"a": fits}, "data_collator": lambda rows: {}}
    MultimodalBalancedTrainer(token_model(), training_args(), **data)


def test_token_limits():
    """RoBERTa counts its positions from behind the padding; rotary ones have no table."""
    common = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    common |= {"intermediate_size": 16, "max_position_embeddings": 10}
    kinds = {
        "bert": {},
        "roberta": {"pad_token_id": 1},
        "modernbert": {"pad_token_id": 0},
        "distilbert": {"dim": 16, "n_heads": 2},
    }
    encoders = {}
    for name, options in kinds.items():
        config = {"model_type": name, **common, **options}
        encoders[name] = {"type": "transformers", "config": config}
    encoders["audio"] = {"type": "sequence", "input_size": 3, "hidden_size": 4, "num_heads": 1}
    model = MultimodalForClassification(MultimodalConfig(modalities=encoders, num_labels=2))
    limits = token_limits(model.encoders)
    assert limits == {"bert": (40, 10), "roberta": (40, 8), "modernbert": (40, None), "distilbert": (40, 10)}


def test_token_ids_of_a_wrapped_model(training_args):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = BertModel(BertConfig(**{**TINY_BERT, "max_position_embeddings": 6}))
            self.see, self.head = nn.Linear(5, 16), nn.Linear(32, 3)

        def forward(self, input_ids, pixels):
            return {"logits": self.head(torch.cat([self.read(input_ids).pooler_output, self.see(pixels)], dim=-1))}

    rows = datasets.Dataset.from_list([{"input_ids": [1, 50], "pixels": [0.0] * 5, "labels": 0}])
    model = balance(Model(), {"text": "read", "vision": "see"}, num_labels=3)
    with pytest.raises(ValueError, match="row 0 of 'input_ids' has the token id 50"):
        MultimodalBalancedTrainer(model, training_args(), train_dataset=rows)
