"""`pipeline("multimodal-classification")`: every form of input, every option, batches, and what cannot be read."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, Features, Value, Video
from media_samples import needs_media_columns, write_clip
from PIL import Image
from tiny import tiny_text_model
from transformers import AutoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from hf_bml import (
    MultimodalClassificationPipeline,
    MultimodalConfig,
    MultimodalForClassification,
    MultimodalProcessor,
)
from hf_bml.processing.media.video import read_video
from hf_bml.processing.media.waveform import read_waveform

TASK = "multimodal-classification"
RATE = 8000
AUDIO = {"type": "log_spectrogram", "sampling_rate": RATE, "duration": 0.5, "window_length": 128, "overlap": 64}
PROCESSORS = {"audio": AUDIO, "visual": {"type": "video", "num_frames": 2, "size": 16}}
NAMES = {0: "dog", 1: "bell", 2: "rain"}
STANDARD = {"label_mean": [70.0] * 3, "label_std": [2.0] * 3}  # of a regression's labels


def make_model(**options):
    torch.manual_seed(0)
    encoders = {
        "audio": {"type": "conv", "in_channels": 1, "channels": [4, 8]},
        "visual": {"type": "conv", "in_channels": 3, "channels": [4, 8]},
    }
    return MultimodalForClassification(MultimodalConfig(modalities=encoders, id2label=NAMES, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model and processor, and two clips that differ."""
    folder = tmp_path_factory.mktemp("run")
    make_model().save_pretrained(folder)
    MultimodalProcessor(PROCESSORS).save_pretrained(folder)
    write_clip(folder / "clip.mp4", seconds=0.5)
    write_clip(folder / "other.mp4", times=[0, 300, 600], tone=0.1, seconds=0.5, size=(48, 32))
    write_clip(folder / "mute.mp4", times=[0, 100], tone=None)
    (folder / "broken.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def classify(folder):
    return pipeline(TASK, model=str(folder), device="cpu")


@pytest.fixture
def clip(folder):
    return str(folder / "clip.mp4")


def with_on_error(folder, on_error):
    return pipeline(TASK, model=str(folder), processor=MultimodalProcessor(PROCESSORS, on_error), device="cpu")


def test_the_scores_are_those_of_the_model(classify, clip):
    output = classify.model(**classify.processor.prepare(audio=clip, visual=clip))
    result = classify({"audio": clip, "visual": clip}, return_unimodal=True)
    expected = {"joint": output.logits, **output.unimodal_logits}
    for name, found in {"joint": result["joint"], **result["unimodal"]}.items():
        probabilities = expected[name][0].softmax(dim=-1).tolist()
        assert found == sorted(found, key=lambda entry: -entry["score"])
        assert {entry["label"]: entry["score"] for entry in found} == dict(
            zip(NAMES.values(), probabilities, strict=True)
        )
    assert classify({"audio": clip, "visual": clip}) == result["joint"]


def test_an_absent_modality_is_masked(classify, clip):
    output = classify.model(**classify.processor.prepare(visual=clip))
    result = classify({"audio": None, "visual": clip}, return_unimodal=True, top_k=1)
    best = int(output.logits.argmax())
    assert result["joint"] == [{"label": NAMES[best], "score": output.logits.softmax(-1)[0, best].item()}]
    assert result["unimodal"]["audio"] is None and len(result["unimodal"]["visual"]) == 1
    assert classify({"visual": clip}, top_k=1) == result["joint"]


def test_options(folder, clip):
    classify = pipeline(TASK, model=str(folder), device="cpu", top_k=2, function_to_apply="none")
    logits = classify.model(**classify.processor.prepare(audio=clip, visual=clip)).logits[0]
    ranked = sorted(logits.tolist(), reverse=True)
    assert [entry["score"] for entry in classify(clip)] == ranked[:2]
    assert [entry["score"] for entry in classify(clip, top_k=None)] == ranked
    assert [entry["score"] for entry in classify(clip, top_k=9)] == ranked
    sigmoid = classify(clip, function_to_apply="sigmoid", top_k=None)
    assert [entry["score"] for entry in sigmoid] == sorted(logits.sigmoid().tolist(), reverse=True)


@pytest.mark.parametrize(("problem_type", "options"), [("multi_label_classification", {}), ("regression", STANDARD)])
def test_other_tasks(folder, clip, problem_type, options):
    model = make_model(problem_type=problem_type, **options).eval()
    classify = pipeline(TASK, model=model, processor=MultimodalProcessor(PROCESSORS), device="cpu")
    result = classify(clip, return_unimodal=True)
    output = model(**classify.processor.prepare(audio=clip, visual=clip))
    for name, logits in {"joint": output.logits, **output.unimodal_logits}.items():
        found = result["joint"] if name == "joint" else result["unimodal"][name]
        values = logits[0].sigmoid() if problem_type != "regression" else logits[0]
        expected = [{"label": NAMES[label], "score": value} for label, value in enumerate(values.tolist())]
        assert found == (expected if options else sorted(expected, key=lambda entry: -entry["score"]))
        assert not options or all(abs(entry["score"] - 70) < 30 for entry in found)


def test_forms_of_input(classify, clip, folder):
    wave, (frames, _) = read_waveform(clip, RATE), read_video(clip)
    soundfile.write(folder / "sound.wav", wave.numpy(), RATE, subtype="FLOAT")
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    content = (folder / "clip.mp4").read_bytes()
    expected = classify({"audio": clip, "visual": clip})
    for audio in (
        folder / "sound.wav",
        content,
        {"bytes": content, "path": None},
        {"array": wave.numpy(), "sampling_rate": RATE},
        {"array": wave, "sampling_rate": RATE},
        wave,
    ):
        assert classify({"audio": audio, "visual": clip}) == expected
    for visual in (folder / "clip.mp4", content, images, list(frames), frames, frames.permute(0, 2, 3, 1).numpy()):
        assert classify({"audio": clip, "visual": visual, "labels": 2}) == expected
    assert classify(clip) == classify(folder / "clip.mp4") == expected


def test_text_and_features(tokenizer_path, tmp_path):
    processor = MultimodalProcessor(
        {
            "text": {"type": "tokens", "tokenizer": tokenizer_path},
            "sensor": {"type": "features", "input_size": 5},
        }
    )
    classify = pipeline(TASK, model=tiny_text_model(tmp_path / "bert"), processor=processor, device="cpu")
    inputs = [{"text": "the"}, {"sensor": [[1.0] * 5] * 2}, {"text": "cat", "sensor": np.ones((3, 5))}]
    alone = [classify(given) for given in inputs]
    for one, batched in zip(alone, classify(inputs, batch_size=3), strict=True):
        assert [entry["label"] for entry in one] == [entry["label"] for entry in batched]
        np.testing.assert_allclose(*[[entry["score"] for entry in found] for found in (one, batched)], rtol=1e-5)
    with pytest.raises(ValueError, match=r"none of the modalities \['text', 'sensor'\] is read from a video"):
        classify("the cat")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches(classify, folder, clip, batch_size, workers):
    other = str(folder / "other.mp4")
    inputs = [{"audio": clip}, {"visual": other}, {"audio": other, "visual": clip}, clip, {"audio": other}]
    options = {"batch_size": batch_size, "num_workers": workers, "return_unimodal": True}
    expected = [classify(given, return_unimodal=True) for given in inputs]
    found = classify(inputs, **options)
    assert isinstance(found, list)
    streamed = classify((given for given in inputs), **options)
    for results in (found, list(streamed)):
        assert len(results) == len(expected)
        for result, one in zip(results, expected, strict=True):
            for name in ("audio", "visual"):
                assert (result["unimodal"][name] is None) == (one["unimodal"][name] is None)
            assert [entry["label"] for entry in result["joint"]] == [entry["label"] for entry in one["joint"]]
            np.testing.assert_allclose(
                *[[entry["score"] for entry in given["joint"]] for given in (result, one)], rtol=1e-5
            )


def test_data_sets(classify, folder, clip):
    needs_media_columns()
    files = [clip, str(folder / "other.mp4"), clip]
    raw = [{"bytes": None, "path": path} for path in files]
    features = Features({"audio": Audio(), "visual": Video(), "labels": Value("int64"), "speaker": Value("string")})
    columns = {"audio": [*raw[:2], None], "visual": raw, "labels": [0, 1, 2], "speaker": list("abc")}
    data = Dataset.from_dict(columns, features=features)
    expected = classify([{"audio": files[0], "visual": files[0]}, files[1], {"visual": files[2]}], batch_size=2)
    results = classify(data, batch_size=2, num_workers=1)
    assert not isinstance(results, list) and list(results) == expected
    assert list(classify(data.to_iterable_dataset(), batch_size=2)) == expected
    rows = torch.utils.data.Subset([{"visual": path} for path in files], [1])
    assert list(classify(rows)) == [classify({"visual": files[1]})]
    assert list(classify(Dataset.from_dict({"visual": files}))) == [classify({"visual": path}) for path in files]
    with pytest.raises(ValueError, match=r"column for at least one of the modalities .* found \['speaker'\]"):
        classify(data.select_columns("speaker"))
    prepared = classify.processor.apply(datasets.DatasetDict({"test": data}))["test"]
    with pytest.raises(ValueError, match="found one with a transform"):
        classify(prepared)


def test_errors_in_an_input(classify, clip, folder):
    with pytest.raises(ValueError, match=r"out of \['audio', 'visual'\], found 'vidual'\. Did you mean 'visual'\?"):
        classify({"vidual": clip})
    for nothing in ({}, {"audio": None}, {"labels": 1}):
        with pytest.raises(ValueError, match=r"at least one of the modalities .* found none"):
            classify(nothing)
    with pytest.raises(ValueError, match=r"a dict with a value per modality .* found ndarray"):
        classify(np.zeros(100))
    with pytest.raises(ValueError, match=r"modality 'audio': .*absent\.mp4: expected an audio file"):
        classify([{"audio": str(folder / "absent.mp4")}])
    with pytest.raises(ValueError, match=r"modality 'visual': .*broken\.mp4"):
        classify({"visual": folder / "broken.mp4"})
    with pytest.raises(ValueError, match=r"mute\.mp4: expected an audio stream"):
        classify(folder / "mute.mp4")


def test_errors_in_options(classify, clip, folder):
    with pytest.raises(ValueError, match=r"no option 'topk'\. Did you mean 'top_k'\?"):
        classify(clip, topk=2)
    for wrong in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="Expected top_k >= 1, or None for all labels"):
            classify(clip, top_k=wrong)
    with pytest.raises(ValueError, match=r"found 'softmx'\. Did you mean 'softmax'\?"):
        pipeline(TASK, model=str(folder), function_to_apply="softmx")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_what_cannot_be_read(folder, clip, batch_size, caplog):
    mute, broken = str(folder / "mute.mp4"), str(folder / "broken.mp4")
    inputs = [broken, mute, clip, {"audio": clip, "visual": broken}]
    masked = with_on_error(folder, "mask")
    results = masked(inputs, batch_size=batch_size, top_k=1)
    assert results[0] is None and "broken.mp4" in caplog.text
    for result, given in zip(results[1:], ({"visual": mute}, clip, {"audio": clip}), strict=True):
        [[entry], [expected]] = result, masked(given, top_k=1)
        assert entry["label"] == expected["label"] and entry["score"] == pytest.approx(expected["score"])
    skipping = with_on_error(folder, "skip")
    results = skipping(inputs, batch_size=batch_size, top_k=1)
    assert [result is None for result in results] == [True, True, False, True]
    assert skipping([broken, broken], batch_size=batch_size) == [None, None] and skipping(broken) is None
    with pytest.raises(ValueError, match="found none"):
        skipping({})


def test_processors(folder, clip, tmp_path):
    model = make_model()
    with pytest.raises(ValueError, match=r"found none for a model that was not loaded\. Pass `processor="):
        pipeline(TASK, model=model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"processor_config\.json.*Pass `processor=MultimodalProcessor"):
        pipeline(TASK, model=str(tmp_path))
    expected = pipeline(TASK, model=str(folder))(clip)
    assert pipeline(TASK, model=str(tmp_path), processor=str(folder))(clip) == expected
    assert pipeline(TASK, model=folder, processor=AutoProcessor.from_pretrained(folder))(clip) == expected
    with pytest.raises(ValueError, match=r"model's modalities \['audio', 'visual'\], found one of \['audio'\]"):
        pipeline(TASK, model=str(tmp_path), processor=MultimodalProcessor({"audio": AUDIO}))
    reversed_order = MultimodalProcessor(dict(reversed(PROCESSORS.items())))
    classify = pipeline(TASK, model=str(tmp_path), processor=reversed_order)
    assert classify({"visual": clip}) == pipeline(TASK, model=str(folder))({"visual": clip})


def test_saved_and_loaded(classify, clip, tmp_path):
    classify.save_pretrained(tmp_path / "again")
    assert pipeline(TASK, model=str(tmp_path / "again"))(clip) == classify(clip)


def test_a_model_in_training_mode_predicts_in_eval_mode(clip):
    model = make_model().train()
    classify = pipeline(TASK, model=model, processor=MultimodalProcessor(PROCESSORS), device="cpu")
    assert not model.training and classify(clip) == classify(clip)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(folder, clip, classify, dtype):
    half = pipeline(TASK, model=str(folder), dtype=dtype, device="cpu")
    assert half.model.dtype == getattr(torch, dtype)
    result, expected = half(clip, return_unimodal=True), classify(clip, return_unimodal=True)
    for one, other in zip(
        [result["joint"], *result["unimodal"].values()],
        [expected["joint"], *expected["unimodal"].values()],
        strict=True,
    ):
        by_label = {entry["label"]: entry["score"] for entry in other}
        assert all(entry["score"] == pytest.approx(by_label[entry["label"]], abs=0.02) for entry in one)


def test_a_model_with_several_predictions_a_sample(clip):
    class Segments(MultimodalForClassification):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.logits = output.logits[:, None].repeat(1, 10, 1)
            return output

    classify = pipeline(TASK, model=Segments(make_model().config), processor=MultimodalProcessor(PROCESSORS))
    with pytest.raises(
        ValueError, match=r"one prediction per sample, found logits of shape \(1, 10, 3\) from Segments"
    ):
        classify(clip)


def test_it_is_registered():
    assert PIPELINE_REGISTRY.check_task(TASK)[1]["impl"] is MultimodalClassificationPipeline
