from __future__ import annotations

import numpy as np
import pytest

from recipes.music_avqa_generated.music_scene import (
    ANSWERS,
    INSTRUMENTS,
    PICTURE_SIZE,
    SOUND_SIZE,
    STEPS,
    Fact,
    Player,
    Scene,
    answer,
    find_scene,
    number,
    picture,
    sound,
)

# From left to right: an unseen flute, a cello from the start, a violin that follows, a piano that nobody hears.
TRIO = Scene(
    (
        Player("flute", x=0.0, seen=False, loudness=0.1, rhythm=0.2),
        Player("cello", x=0.2, start=0, end=10, loudness=0.9, rhythm=0.3),
        Player("violin", x=0.5, start=4, end=10, loudness=0.4, rhythm=0.8),
        Player("piano", x=0.9, heard=False),
    ),
    indoor=False,
    voice=True,
)


@pytest.mark.parametrize(
    ("template", "fillers", "expected"),
    [
        ("How many musical instruments were heard throughout the video", [], "three"),
        ("Is there a <Object> sound", ["piano"], "no"),
        ("Is there a <Object> sound", ["flute"], "yes"),
        ("Are there <Object> and <Object> sound", ["flute", "cello"], "yes"),
        ("Are there <Object> and <Object> sound", ["flute", "piano"], "no"),
        ("Is the <Object> louder than the <Object>", ["cello", "violin"], "yes"),
        ("Is the <Object> louder than the <Object>", ["cello", "piano"], None),
        ("Is the <Object> more rhythmic than the <Object>", ["cello", "violin"], "no"),
        ("Is the <Object> playing longer than the <Object>", ["cello", "violin"], "yes"),
        ("How many <Object> are in the entire video", ["violin"], "one"),
        ("How many <Object> are in the entire video", ["flute"], "zero"),
        ("How many types of musical instruments appeared in the entire video", [], "three"),
        ("Is there a <Object> in the entire video", ["flute"], "no"),
        ("Are there <Object> and <Object> instruments in the video", ["piano", "cello"], "yes"),
        ("What is the instrument on the <LR> of <Object>", ["left", "piano"], "violin"),
        ("What is the instrument on the <LR> of <Object>", ["left", "cello"], None),
        ("Where is the performance", [], "outdoor"),
        ("What kind of instrument is the <LRer> instrument", ["leftest"], "cello"),
        ("What kind of instrument is the <LRer> instrument", ["rightest"], "piano"),
        ("What kind of musical instrument is it", [], None),
        ("How many sounding <Object> in the video", ["piano"], "zero"),
        ("How many instruments in the video did not sound from beginning to end", [], "one"),
        ("How many types of musical instruments sound in the video", [], "two"),
        ("How many instruments are sounding in the video", [], "two"),
        ("What is the <TH> instrument that comes in", ["second"], "violin"),
        ("What is the <TH> instrument that comes in", ["third"], None),
        ("Where is the <FL> sounding instrument", ["first"], "left"),
        ("Where is the <FL> sounding instrument", ["last"], "middle"),
        ("Which <Object> makes the sound <FL>", ["cello", "first"], None),
        ("Which instrument makes sounds <BA> the <Object>", ["before", "violin"], "cello"),
        ("Which instrument makes sounds <BA> the <Object>", ["after", "violin"], None),
        ("Which is the musical instrument that sounds at the same time as the <Object>", ["cello"], None),
        ("Is the <FL> sound coming from the <LR> instrument", ["first", "left"], "yes"),
        ("Is the <FL> sound coming from the <LR> instrument", ["last", "left"], "no"),
        ("Where is the <LL> instrument", ["loudest"], "left"),
        ("What is the <LR> instrument of the <FL> sounding instrument", ["right", "first"], "violin"),
        ("Is the instrument on the <LR> louder than the instrument on the <LR>", ["left", "middle"], "yes"),
        ("Is the instrument on the <LR> more rhythmic than the instrument on the <LR>", ["left", "middle"], "no"),
        (
            "Is the <Object> on the <LR> louder than the <Object> on the <LR>",
            ["cello", "left", "violin", "middle"],
            "yes",
        ),
        (
            "Is the <Object> on the <LR> louder than the <Object> on the <LR>",
            ["cello", "right", "violin", "left"],
            None,
        ),
        (
            "Is the <Object> on the <LR> more rhythmic than the <Object> on the <LR>",
            ["violin", "middle", "cello", "left"],
            "yes",
        ),
        ("Is there a voiceover", [], "yes"),
        ("Is the <Object> in the video always playing", ["cello"], "yes"),
        ("Is the <Object> in the video always playing", ["piano"], "no"),
        ("Is the <Object> in the video always playing", ["flute"], None),
        ("Is this sound from the instrument in the video", [], "no"),
    ],
)
def test_answers_by_hand(template, fillers, expected):
    assert answer(TRIO, template, fillers) == expected


def test_several_of_one_instrument():
    early, late = Player("violin", x=0.1), Player("violin", x=0.9, start=5)
    assert answer(Scene((early, late)), "Which <Object> makes the sound <FL>", ["violin", "last"]) == "right"
    together = Scene((early, Player("violin", x=0.9)))
    assert answer(together, "Which <Object> makes the sound <FL>", ["violin", "last"]) == "simultaneously"
    assert answer(together, "What kind of musical instrument is it", []) == "violin"
    pair = Scene((Player("violin"), Player("cello")))
    template = "Which is the musical instrument that sounds at the same time as the <Object>"
    assert answer(pair, template, ["cello"]) == "violin"
    assert [number(count) for count in (0, 10, 11, 40)] == ["zero", "ten", "more than ten", "more than ten"]


@pytest.mark.parametrize("template", ANSWERS)
def test_an_empty_scene_leaves_no_question_without_sense(template):
    """Whatever is asked, an answer is a string or open, never an error."""
    fill = {"<Object>": "cello", "<LR>": "left", "<LRer>": "leftest", "<FL>": "first", "<BA>": "after"}
    fill |= {"<LL>": "loudest", "<TH>": "first"}
    fillers = [fill[word] for word in template.split() if word in fill]
    for scene in (Scene(), Scene((Player("cello", heard=False),)), Scene((Player("cello", seen=False),)), TRIO):
        assert isinstance(answer(scene, template, fillers), str | None)


def test_sound_by_hand():
    heard = sound(TRIO)
    cello, violin, piano = (INSTRUMENTS.index(name) for name in ("cello", "violin", "piano"))
    assert heard.shape == (STEPS, SOUND_SIZE) and heard.dtype == np.float32
    counts, loudness, rhythm = np.split(heard[:, :-1], 3, axis=1)
    assert counts[:, cello].tolist() == [1] * 10 and counts[:, violin].tolist() == [0] * 4 + [1] * 6
    assert (counts.sum(1) == [2] * 4 + [3] * 6).all() and not counts[:, piano].any()
    assert loudness[0, cello] == np.float32(1.8) and rhythm[9, violin] == np.float32(1.6)
    assert (heard[:, -1] == 2).all()


def test_picture_by_hand():
    seen = picture(TRIO)
    assert seen.shape == (STEPS, PICTURE_SIZE) and (seen == seen[0]).all()
    counts, where = seen[0, :66].reshape(3, 22), seen[0, 66:88]
    found = {(place, INSTRUMENTS[index]) for place, index in zip(*np.nonzero(counts), strict=True)}
    assert found == {(0, "cello"), (1, "violin"), (2, "piano")}
    assert where[INSTRUMENTS.index("piano")] == np.float32(1.9) and where[INSTRUMENTS.index("flute")] == 0
    assert seen[0, -2:].tolist() == [0, 0]


def test_the_sound_hides_the_picture_and_the_picture_the_sound():
    moved = Scene(
        tuple(Player(p.instrument, 0.95, False, p.heard, p.start, p.end, p.loudness, p.rhythm) for p in TRIO.players)
    )
    assert (sound(moved)[:, :-1] == sound(TRIO)[:, :-1]).all()
    muted = Scene(tuple(Player(p.instrument, p.x, p.seen, False, 0, 3, 0.5, 0.5) for p in TRIO.players), indoor=False)
    assert (picture(muted) == picture(TRIO)).all()


FACTS = [
    Fact("How many musical instruments were heard throughout the video", (), "two"),
    Fact("How many instruments are sounding in the video", (), "one"),
    Fact("Is there a <Object> in the entire video", ("tuba",), "no"),
    Fact("What kind of instrument is the <LRer> instrument", ("leftest",), "erhu"),
    Fact("Is there a voiceover", (), "yes"),
]


@pytest.mark.parametrize("seed", range(5))
def test_a_scene_is_found_that_agrees(seed):
    scene, agrees = find_scene(FACTS, seed)
    assert agrees == [True] * 5
    assert [answer(scene, fact.template, fact.fillers) for fact in FACTS] == [fact.answer for fact in FACTS]
    assert len(scene.heard) == 2 and find_scene(FACTS, seed)[0] == scene


def test_facts_that_contradict_each_other():
    both = [Fact("Where is the performance", (), "indoor"), Fact("Where is the performance", (), "outdoor")]
    _, agrees = find_scene(both, 0)
    assert sorted(agrees) == [False, True]


def test_what_the_facts_leave_open_depends_on_the_seed():
    assert len({repr(find_scene(FACTS[:1], seed)[0]) for seed in range(8)}) > 4
