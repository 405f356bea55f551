from types import SimpleNamespace

import datasets
import pytest
from tiny import tiny_dataset, tiny_model
from torch import nn

from hf_bml import OGM, OPM, BalancedTrainingArguments, MultimodalBalancedTrainer, MultimodalDataCollator
from hf_bml.modulation import GradientBlending, Greedy
from hf_bml.preflight import check_parallelism


def trainer(training_args, **options):
    return MultimodalBalancedTrainer(tiny_model(), training_args(**options.pop("args", {})), **options)


@pytest.mark.parametrize("which", ["train_dataset", "eval_dataset"])
def test_missing_column(training_args, which):
    dataset = tiny_dataset().rename_column("audio", "sound")
    with pytest.raises(ValueError, match=rf"{which} lacks the columns \['audio'\].*found \['sound', 'visual'"):
        trainer(training_args, **{which: dataset})


def test_empty_split(training_args):
    with pytest.raises(ValueError, match="train_dataset is empty"):
        trainer(training_args, train_dataset=tiny_dataset().select([]))


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
    with pytest.raises(ValueError, match="every sample needs a label, found none in some rows"):
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
        check_parallelism(parallel(kind), [OPM(), OGM(noise=noise)])
    assert "['ogm']" in str(error.value)
    assert all(way in str(error.value) for way in ways_out)
    check_parallelism(parallel(kind), [OGM(placement="graph"), OPM()])
    for works in ("ddp", "fsdp2"):
        check_parallelism(parallel(works), [OGM(noise=noise)])


@pytest.mark.parametrize("modulation", [OPM(), OGM(placement="graph"), OGM()])
def test_nothing_runs_under_data_parallel(modulation):
    with pytest.raises(ValueError, match="accelerate launch"):
        check_parallelism(parallel("data_parallel"), [modulation])


@pytest.mark.parametrize("kind", ["deepspeed", "fsdp1", "fsdp2"])
@pytest.mark.parametrize("modulation", [Greedy(), GradientBlending()], ids=["greedy", "gradient_blending"])
def test_methods_that_need_the_whole_model_refuse_sharding(kind, modulation):
    with pytest.raises(ValueError, match=rf"\['{modulation.name}'\] need the whole model .* Use DDP"):
        check_parallelism(parallel(kind), [OPM(), modulation])
    check_parallelism(parallel("ddp"), [OPM(), modulation])


@pytest.mark.parametrize(
    ("modulations", "message"),
    [
        ({"opm": {"q_base": 1.5}}, r"q_base must be a number in \(0, 1\), found 1.5"),
        ({"ogm": {"alpha": -1}}, "alpha"),
        ({"opn": {}}, "Did you mean 'opm'"),
        ("opm", "must be a mapping"),
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
