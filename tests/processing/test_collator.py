from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hf_bml.processing import MultimodalDataCollator


def collate(*values, name="a", **options):
    """Collate one modality; a second, always present one keeps samples valid."""
    collator = MultimodalDataCollator([name, "other"], **options)
    return collator([{name: value, "other": torch.zeros(1), "labels": 0} for value in values])


def test_vectors_images_and_labels():
    collator = MultimodalDataCollator(["audio", "visual"], num_labels=3)
    samples = [
        {"audio": torch.full((2,), float(i)), "visual": torch.full((1, 2, 2), float(i)), "labels": i, "id": str(i)}
        for i in range(3)
    ]
    batch = collator(samples)
    assert list(batch) == ["audio", "visual", "labels"]
    assert batch["audio"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert batch["visual"].shape == (3, 1, 2, 2)
    assert batch["labels"].tolist() == [0, 1, 2] and batch["labels"].dtype == torch.int64


def test_tensor_labels_and_no_labels():
    collator = MultimodalDataCollator(["a"])
    batch = collator([{"a": torch.zeros(1), "labels": torch.tensor(5)}, {"a": torch.zeros(1), "labels": 7}])
    assert batch["labels"].tolist() == [5, 7]
    assert list(collator([{"a": torch.zeros(1)}])) == ["a"]


def test_sequences_are_padded_with_a_mask():
    batch = collate(torch.ones(1, 2), torch.ones(3, 2))
    assert batch["a"]["values"].tolist() == [[[1, 1], [0, 0], [0, 0]], [[1, 1]] * 3]
    assert batch["a"]["mask"].tolist() == [[True, False, False], [True] * 3]
    assert batch["a"]["mask"].dtype == torch.bool
    equal = collate(torch.ones(2, 2), torch.ones(2, 2))
    assert equal["a"]["values"].shape == (2, 2, 2) and equal["a"]["mask"].all()


def test_clips_are_stacked_or_padded():
    equal = collate(torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3))
    assert equal["a"].shape == (2, 2, 1, 3, 3)
    varying = collate(torch.ones(2, 1, 3, 3), torch.ones(1, 1, 3, 3))
    assert varying["a"]["values"].shape == (2, 2, 1, 3, 3)
    assert varying["a"]["mask"].tolist() == [[True, True], [True, False]]
    assert varying["a"]["values"][1, 1].abs().sum() == 0


def test_token_dicts_are_padded_per_key():
    short = {"input_ids": torch.tensor([4]), "attention_mask": torch.tensor([1])}
    long = {"input_ids": torch.tensor([5, 6]), "attention_mask": torch.tensor([1, 1])}
    batch = collate(short, long)
    assert batch["a"]["input_ids"].tolist() == [[4, 0], [5, 6]]
    assert batch["a"]["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert collate(short, long, pad_token_id=9)["a"]["input_ids"].tolist() == [[4, 9], [5, 6]]


def test_absent_modality_becomes_zeros_and_a_mask():
    batch = collate(None, torch.ones(1, 2, 2))
    assert batch["a"][0].abs().sum() == 0 and batch["a"].shape == (2, 1, 2, 2)
    assert batch["modality_mask"].tolist() == [[False, True], [True, True]]
    assert batch["modality_mask"].dtype == torch.bool
    assert collate(torch.ones(2, 1, 3, 3), None)["a"].shape == (2, 2, 1, 3, 3)


def test_absent_sequence_is_one_valid_step_so_attention_stays_finite():
    batch = collate(None, torch.ones(3, 2))
    assert batch["a"]["mask"].tolist() == [[True, False, False], [True] * 3]
    attention = nn.MultiheadAttention(2, 1, batch_first=True)
    values, mask = batch["a"]["values"], batch["a"]["mask"]
    assert torch.isfinite(attention(values, values, values, key_padding_mask=~mask)[0]).all()
    tokens = collate({"input_ids": torch.tensor([4, 5]), "attention_mask": torch.ones(2)}, None, pad_token_id=7)
    assert tokens["a"]["input_ids"].tolist() == [[4, 5], [7, 7]]
    assert tokens["a"]["attention_mask"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize(
    "value",
    [torch.ones(3), torch.ones(4, 2), torch.ones(1, 2, 2), torch.ones(2, 1, 2, 2), {"input_ids": torch.ones(4)}],
)
def test_whole_batch_absent_uses_the_last_seen_shape(value):
    collator = MultimodalDataCollator(["a", "other"])
    absent = {"a": None, "other": torch.zeros(1), "labels": 0}
    with pytest.raises(ValueError, match=r"modality 'a'.*absent in every sample so far.*collator.prime"):
        collator([absent])
    with_one = collator([{**absent, "a": value}, absent])
    without = collator([absent, absent])
    assert without["modality_mask"].tolist() == [[False, True]] * 2
    assert type(without["a"]) is type(with_one["a"])
    tensors = without["a"].values() if isinstance(without["a"], dict) else [without["a"]]
    assert all(len(tensor) == 2 for tensor in tensors)


class Samples:
    """Map-style data that counts what is read, drawing random numbers as an augmentation does."""

    def __init__(self, *values):
        self.values, self.read = values, []

    def __len__(self):
        return len(self.values)

    def __getitem__(self, row):
        self.read.append(row)
        return {"a": self.values[row], "other": torch.rand(1), "labels": 0}


def test_priming_reads_no_more_than_it_takes_and_draws_nothing():
    collator, samples = MultimodalDataCollator(["a", "other"]), Samples(None, torch.ones(2, 3), torch.ones(1, 3))
    torch.manual_seed(0)
    collator.prime(samples)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0))
    assert samples.read == [0, 1]
    collator.prime(samples)
    assert samples.read == [0, 1]
    assert collator([{"a": None, "other": torch.zeros(1)}])["a"]["values"].shape == (1, 1, 3)


def test_priming_gives_up_on_a_modality_that_is_never_there():
    samples = Samples(*[None] * 5)
    MultimodalDataCollator(["a", "other"]).prime(samples, limit=3)
    assert samples.read == [0, 1, 2]
    with pytest.raises(ValueError, match=r"row 0, modality 'a': .*expected a torch.Tensor"):
        MultimodalDataCollator(["a"]).prime(iter([{"a": [1.0]}]))


def test_workers_whose_first_batch_lacks_a_modality():
    samples = Samples(torch.ones(3), torch.ones(3), None, None)  # the second worker gets the last two
    collator = MultimodalDataCollator(["a", "other"])
    collator.prime(samples)
    batches = list(DataLoader(samples, batch_size=2, num_workers=2, collate_fn=collator))
    assert batches[1]["modality_mask"].tolist() == [[False, True]] * 2
    assert batches[1]["a"].shape == (2, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([torch.ones(2), torch.ones(3)], r"'a': sample 1: expected shape \(2,\).*found \(3,\)"),
        ([torch.ones(1, 2, 2), torch.ones(1, 2, 3)], "sample 1: expected shape"),
        ([torch.ones(2, 3), torch.ones(2, 4)], r"sample 1: expected trailing shape \(3,\)"),
        ([torch.ones(2, 1, 3, 3), torch.ones(1, 1, 3, 4)], "sample 1: expected trailing shape"),
        ([torch.ones(2), torch.ones(2, 2)], "sample 1: expected rank 1.*found rank 2"),
        ([{"x": torch.ones(1)}, {"y": torch.ones(1)}], r"sample 1: expected keys \['x'\].*found keys \['y'\]"),
        ([None, torch.tensor([1.0, float("nan")])], "sample 1: expected finite"),
        ([torch.ones(1, 2), torch.full((2, 2), float("inf"))], "sample 1: expected finite"),
        ([torch.ones(2), torch.ones(0)], r"sample 1: expected at least one element, found shape \(0,\)"),
        ([torch.ones(0, 2)], "sample 0: expected at least one element"),
        ([{"x": torch.ones(0)}], "sample 0: expected at least one element"),
        ([torch.tensor(1.0)], "sample 0: expected rank 1 to 4"),
        ([torch.ones(1, 1, 1, 1, 1)], "sample 0: expected rank 1 to 4"),
        ([[1.0, 2.0]], r"sample 0: expected a torch.Tensor.*found list.*with_format\('torch'\)"),
        ([{}], "sample 0: expected a torch.Tensor"),
    ],
)
def test_invalid_values(values, message):
    with pytest.raises(ValueError, match=message):
        collate(*values)


@pytest.mark.parametrize("label", [-1, 3, None, 1.0, "1"])
def test_invalid_labels(label):
    samples = [{"a": torch.ones(1), "labels": 0}, {"a": torch.ones(1), "labels": label}]
    with pytest.raises(ValueError, match=r"sample 1: expected an integer label in \[0, 3\)"):
        MultimodalDataCollator(["a"], num_labels=3)(samples)


def test_invalid_samples():
    collator = MultimodalDataCollator(["a", "b"])
    good = {"a": torch.ones(1), "b": torch.ones(1)}
    with pytest.raises(ValueError, match="at least one sample"):
        collator([])
    with pytest.raises(ValueError, match=r"sample 1: expected columns \['a', 'b'\], found \['a'\]: \['b'\] missing"):
        collator([good, {"a": torch.ones(1)}])
    with pytest.raises(ValueError, match="sample 1: expected at least one of the modalities"):
        collator([good, {"a": None, "b": None}])


def test_floats_passed_on():
    collator = MultimodalDataCollator(["a"], passed_on=["weight"])
    samples = [{"a": torch.ones(2), "weight": weight} for weight in (0.5, torch.tensor(2.0), 1)]
    assert torch.equal(collator(samples)["weight"], torch.tensor([0.5, 2.0, 1.0]))
    with pytest.raises(ValueError, match="column 'weight': sample 1: expected finite values"):
        collator([*samples[:1], {"a": torch.ones(2), "weight": None}])


def test_columns_passed_on():
    collator = MultimodalDataCollator(["a"], num_labels=2, passed_on=["kind", "nothing"])
    batch = collator(
        [{"a": torch.zeros(1), "labels": 1, "kind": 7, "id": 3}, {"a": torch.zeros(1), "labels": 0, "kind": 0}]
    )
    assert list(batch) == ["a", "labels", "kind"]
    assert batch["kind"].tolist() == [7, 0] and batch["kind"].dtype == torch.int64
    assert list(collator([{"a": torch.zeros(1)}])) == ["a"]


@pytest.mark.parametrize(
    ("second", "message"),
    [({}, "found None"), ({"kind": -1}, "found -1"), ({"kind": 0.5}, "found 0.5"), ({"kind": None}, "found None")],
)
def test_a_bad_column_that_is_passed_on(second, message):
    collator = MultimodalDataCollator(["a"], passed_on=["kind"])
    with pytest.raises(ValueError, match=f"column 'kind': sample 1: .*{message}"):
        collator([{"a": torch.zeros(1), "kind": 0}, {"a": torch.zeros(1), **second}])


@pytest.mark.parametrize(
    ("problem_type", "labels", "expected"),
    [
        (None, [1, -100], [1, -100]),
        (None, [-100, -100], [-100, -100]),
        (None, [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]),
        ("multi_label_classification", [[0, 2], []], [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        ("multi_label_classification", [torch.tensor([1]), [2, 0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]),
        ("multi_label_classification", [[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]], [[0.0, 1.0, 0.5], [1.0, 1.0, 1.0]]),
        ("regression", [1, torch.tensor(2.5)], [1.0, 2.5]),
        ("regression", [[1, 2, 3], [4.0, 5.0, 6.0]], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    ],
)
def test_labels_of_every_task(problem_type, labels, expected):
    collator = MultimodalDataCollator(["a"], num_labels=3, problem_type=problem_type)
    rows = [{"a": torch.zeros(1), "labels": each, "sample_weight": 0.5} for each in labels]
    batch = collator(rows)
    assert batch["labels"].tolist() == expected
    assert batch["labels"].is_floating_point() == (problem_type is not None or isinstance(labels[0], list))
    assert batch["sample_weight"].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        ("multi_label_classification", [[0, 3]], r"different class numbers in \[0, 3\)"),
        ("multi_label_classification", [[1, 0, 1]], "3 floats"),  # bits as integers
        ("multi_label_classification", [[1.0, 0.0]], "expected 3 numbers a sample"),
        ("multi_label_classification", [None], "different class numbers"),
        ("regression", ["loud"], "expected a number as label"),
        ("regression", [None], "expected a number as label"),
        ("regression", [float("nan")], "expected finite values"),
        (None, [0, None], "expected an integer label"),
    ],
)
def test_labels_that_a_task_does_not_have(problem_type, labels, message):
    collator = MultimodalDataCollator(["a"], num_labels=3, problem_type=problem_type)
    with pytest.raises(ValueError, match=message):
        collator([{"a": torch.zeros(1), "labels": each} for each in labels])
