"""Scenes of musicians that agree with MUSIC-AVQA's annotation of a video, and what they sound and look like.

A scene says who plays what, where, when and how loud, who is heard and who is seen. `answer` reads the answer to any
of the 33 question templates off a scene; `find_scene` searches one that gives the annotated answer to every question
about a video; `sound` and `picture` turn it into features, sound without places, picture without times. So questions
about the sound can be answered from the sound, those about the picture from the picture, and most others from both.
Not all: of several players of one instrument, nothing tells which is heard, or which comes in first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

INSTRUMENTS = (
    *("accordion", "acoustic_guitar", "bagpipe", "banjo", "bassoon", "cello", "clarinet", "congas", "drum"),
    *("electric_bass", "erhu", "flute", "guzheng", "piano", "pipa", "saxophone", "suona", "trumpet", "tuba"),
    *("ukulele", "violin", "xylophone"),
)
PLACES = ("left", "middle", "right")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "more than ten")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
STEPS = 10  # a minute, every sixth second
SEARCH_STEPS = 3000


@dataclass(frozen=True)
class Player:
    """A musician with an instrument.

    Attributes:
        instrument: one of INSTRUMENTS.
        x: from 0, far left, to 1, far right; a third of it is a place.
        seen, heard: whether the picture shows it, and whether it sounds at all.
        start, end: steps between which it sounds, `0 <= start < end <= STEPS`.
        loudness, rhythm: in (0, 1).
    """

    instrument: str
    x: float = 0.5
    seen: bool = True
    heard: bool = True
    start: int = 0
    end: int = STEPS
    loudness: float = 0.5
    rhythm: float = 0.5

    @property
    def place(self) -> str:
        """Where the player stands."""
        return PLACES[min(int(self.x * 3), 2)]


@dataclass(frozen=True)
class Scene:
    """What happens in a video.

    Attributes:
        players: the musicians.
        indoor: where it is.
        voice, speaker: whether somebody speaks, and whether the picture shows who.
    """

    players: tuple[Player, ...] = field(default_factory=tuple)
    indoor: bool = True
    voice: bool = False
    speaker: bool = False

    @property
    def heard(self) -> list[Player]:
        """The players that are heard."""
        return [player for player in self.players if player.heard]

    @property
    def seen(self) -> list[Player]:
        """The players that are seen."""
        return [player for player in self.players if player.seen]

    @property
    def playing(self) -> list[Player]:
        """Those both seen and heard, by when they come in, then from left to right."""
        both = [player for player in self.players if player.seen and player.heard]
        return sorted(both, key=lambda player: (player.start, player.x))


def number(count: int) -> str:
    """How an answer spells a number."""
    return NUMBERS[min(count, len(NUMBERS) - 1)]


def yes(condition: bool) -> str:
    """The answer to whether something holds."""
    return "yes" if condition else "no"


def of(players: Sequence[Player], instrument: str) -> list[Player]:
    """Those who play an instrument."""
    return [player for player in players if player.instrument == instrument]


def kinds(players: Sequence[Player]) -> list[str]:
    """The instruments that are played, each once, sorted."""
    return sorted({player.instrument for player in players})


def at(players: Sequence[Player], place: str) -> list[Player]:
    """The players at a place."""
    return [player for player in players if player.place == place]


def neighbour(players: Sequence[Player], x: float, side: str) -> str | None:
    """The instrument next to `x` on a side; in the middle, the one closest to the middle."""
    if side == "middle":
        return min(players, key=lambda player: abs(player.x - 0.5)).instrument if players else None
    beside = [player for player in players if (player.x < x if side == "left" else player.x > x)]
    return min(beside, key=lambda player: abs(player.x - x)).instrument if beside else None


def compare(first: Sequence[Player], second: Sequence[Player], value: Callable[[Player], float]) -> str | None:
    """Whether the largest value among the first exceeds that among the second; None if there is nothing to compare."""
    if not first or not second:
        return None
    return yes(max(map(value, first)) > max(map(value, second)))


def loudness(player: Player) -> float:
    """How loud somebody plays."""
    return player.loudness


def rhythm(player: Player) -> float:
    """How rhythmic somebody plays."""
    return player.rhythm


def duration(player: Player) -> float:
    """For how many steps somebody plays."""
    return player.end - player.start


def first_or_last(players: Sequence[Player], which: str) -> Player | None:
    """Who comes in first, or last, if that is one."""
    times = sorted({player.start for player in players})
    found = [player for player in players if player.start == times[0 if which == "first" else -1]]
    return found[0] if len(found) == 1 else None


def same_time(scene: Scene, instrument: str) -> str | None:
    """The one instrument that starts together with another; None unless there is exactly one."""
    starts = {player.start for player in of(scene.playing, instrument)}
    others = kinds([p for p in scene.playing if p.instrument != instrument and p.start in starts])
    return others[0] if len(others) == 1 else None


def before_or_after(scene: Scene, which: str, instrument: str) -> str | None:
    """What starts right before or after an instrument; None if there is no such thing."""
    own = of(scene.playing, instrument)
    if not own:
        return None
    start = own[0].start
    others = [p for p in scene.playing if (p.start < start if which == "before" else p.start > start)]
    return (others[-1] if which == "before" else others[0]).instrument if others else None


def which_object(scene: Scene, instrument: str, which: str) -> str | None:
    """Where the first or last of several players of an instrument stands; None if that is not clear."""
    own = of(scene.playing, instrument)
    if len(own) > 1 and len({player.start for player in own}) == 1:
        return "simultaneously"
    found = first_or_last(own, which) if len(own) > 1 else None
    return found.place if found else None


def place_of_first(scene: Scene, which: str) -> str | None:
    """Where the first or last to play stands; None if nobody plays."""
    found = first_or_last(scene.playing, which) if scene.playing else None
    return found.place if found else None


def loudest_place(scene: Scene, which: str) -> str | None:
    """Where the loudest or the most quiet player stands; None unless several play."""
    if len(scene.playing) < 2:
        return None
    return (max if which == "loudest" else min)(scene.playing, key=loudness).place


def beside_first(scene: Scene, side: str, which: str) -> str | None:
    """Who stands beside the first or last to play."""
    found = first_or_last(scene.playing, which) if scene.playing else None
    return neighbour([player for player in scene.seen if player is not found], found.x, side) if found else None


def ordinal(scene: Scene, which: str) -> str | None:
    """The n-th instrument to come in; None unless it comes in alone."""
    place = ORDINALS.index(which)
    times = [player.start for player in scene.playing]
    is_clear = place < len(times) and times.count(times[place]) == 1
    return scene.playing[place].instrument if is_clear else None


def single_kind(scene: Scene) -> str | None:
    """The one instrument that is seen; None if there are several."""
    return kinds(scene.seen)[0] if len(kinds(scene.seen)) == 1 else None


def beside_instrument(scene: Scene, side: str, instrument: str) -> str | None:
    """Who stands beside an instrument, the leftmost of several."""
    own = min(of(scene.seen, instrument), key=lambda player: player.x, default=None)
    return neighbour([player for player in scene.seen if player is not own], own.x, side) if own else None


def outermost(scene: Scene, which: str) -> str | None:
    """The leftmost or rightmost instrument; None unless several are seen."""
    if len(scene.seen) < 2:
        return None
    return (min if which == "leftest" else max)(scene.seen, key=lambda player: player.x).instrument


def always_playing(scene: Scene, instrument: str) -> str | None:
    """Whether an instrument that is seen plays all the time; None if it is not seen."""
    own = of(scene.seen, instrument)
    return yes(any(p.heard and duration(p) == STEPS for p in own)) if own else None


def on_side(scene: Scene, instrument: str, place: str) -> list[Player]:
    """Those who play an instrument at a place."""
    return at(of(scene.playing, instrument), place)


ANSWERS: dict[str, Callable[..., str | None]] = {
    # Audio
    "How many musical instruments were heard throughout the video": lambda s: number(len(s.heard)),
    "Is there a <Object> sound": lambda s, o: yes(bool(of(s.heard, o))),
    "Are there <Object> and <Object> sound": lambda s, o, p: yes(bool(of(s.heard, o) and of(s.heard, p))),
    "Is the <Object> louder than the <Object>": lambda s, o, p: compare(of(s.heard, o), of(s.heard, p), loudness),
    "Is the <Object> more rhythmic than the <Object>": lambda s, o, p: compare(of(s.heard, o), of(s.heard, p), rhythm),
    "Is the <Object> playing longer than the <Object>": lambda s, o, p: compare(
        of(s.heard, o), of(s.heard, p), duration
    ),
    # Visual
    "How many <Object> are in the entire video": lambda s, o: number(len(of(s.seen, o))),
    "How many types of musical instruments appeared in the entire video": lambda s: number(len(kinds(s.seen))),
    "Is there a <Object> in the entire video": lambda s, o: yes(bool(of(s.seen, o))),
    "Are there <Object> and <Object> instruments in the video": lambda s, o, p: yes(
        bool(of(s.seen, o) and of(s.seen, p))
    ),
    "What is the instrument on the <LR> of <Object>": beside_instrument,
    "Where is the performance": lambda s: "indoor" if s.indoor else "outdoor",
    "What kind of instrument is the <LRer> instrument": outermost,
    "What kind of musical instrument is it": single_kind,
    # Audio-Visual
    "How many sounding <Object> in the video": lambda s, o: number(len(of(s.playing, o))),
    "How many instruments in the video did not sound from beginning to end": lambda s: number(
        len([player for player in s.seen if not player.heard])
    ),
    "How many types of musical instruments sound in the video": lambda s: number(len(kinds(s.playing))),
    "How many instruments are sounding in the video": lambda s: number(len(s.playing)),
    "What is the <TH> instrument that comes in": ordinal,
    "Where is the <FL> sounding instrument": place_of_first,
    "Which <Object> makes the sound <FL>": which_object,
    "Which instrument makes sounds <BA> the <Object>": before_or_after,
    "Which is the musical instrument that sounds at the same time as the <Object>": same_time,
    "Is the <FL> sound coming from the <LR> instrument": lambda s, w, p: (
        yes(place_of_first(s, w) == p) if place_of_first(s, w) else None
    ),
    "Where is the <LL> instrument": loudest_place,
    "What is the <LR> instrument of the <FL> sounding instrument": beside_first,
    "Is the instrument on the <LR> louder than the instrument on the <LR>": lambda s, p, q: compare(
        at(s.playing, p), at(s.playing, q), loudness
    ),
    "Is the instrument on the <LR> more rhythmic than the instrument on the <LR>": lambda s, p, q: compare(
        at(s.playing, p), at(s.playing, q), rhythm
    ),
    "Is the <Object> on the <LR> louder than the <Object> on the <LR>": lambda s, o, p, n, q: compare(
        on_side(s, o, p), on_side(s, n, q), loudness
    ),
    "Is the <Object> on the <LR> more rhythmic than the <Object> on the <LR>": lambda s, o, p, n, q: compare(
        on_side(s, o, p), on_side(s, n, q), rhythm
    ),
    "Is there a voiceover": lambda s: yes(s.voice and not s.speaker),
    "Is the <Object> in the video always playing": always_playing,
    "Is this sound from the instrument in the video": lambda s: (
        yes(all(player.seen for player in s.heard)) if s.heard else None
    ),
}


@dataclass(frozen=True)
class Fact:
    """A question about a video and its annotated answer.

    Attributes:
        template: a key of ANSWERS.
        fillers: of the template's slots, in order.
        answer: as annotated.
    """

    template: str
    fillers: tuple[str, ...]
    answer: str


def answer(scene: Scene, template: str, fillers: Sequence[str]) -> str | None:
    """The answer to a question about a scene; None if the scene leaves it open.

    Example:
        >>> duet = Scene((Player("piano", x=0.1, loudness=0.9), Player("violin", x=0.9, loudness=0.2)))
        >>> answer(duet, "Where is the <LL> instrument", ["loudest"])
        'left'
    """
    return ANSWERS[template](scene, *fillers)


def find_scene(facts: Sequence[Fact], seed: int) -> tuple[Scene, list[bool]]:
    """A scene that agrees with as many facts as a random search can make it.

    Args:
        facts: about one video.
        seed: decides the search, and all that the facts leave open.

    Returns:
        the scene, and which facts it agrees with: a few annotations contradict each other.
    """
    chance = random.Random(seed)
    mentioned = [word for fact in facts for word in (*fact.fillers, fact.answer) if word in INSTRUMENTS]
    likely = mentioned or [chance.choice(INSTRUMENTS)]
    scene = Scene(
        tuple(random_player(chance, name) for name in sorted(set(likely))),
        indoor=chance.random() < 0.7,
        voice=chance.random() < 0.5,
        speaker=chance.random() < 0.5,
    )

    def agreement(candidate: Scene) -> list[bool]:
        """Which facts a scene agrees with."""
        return [answer(candidate, fact.template, fact.fillers) == fact.answer for fact in facts]

    found = agreement(scene)
    for _ in range(SEARCH_STEPS):
        if all(found):
            break
        candidate = changed(scene, chance, likely)
        agreed = agreement(candidate)
        grows = len(candidate.players) > len(scene.players)
        if sum(agreed) > sum(found) or (sum(agreed) == sum(found) and (not grows or chance.random() < 0.25)):
            scene, found = candidate, agreed
    return scene, found


def random_player(chance: random.Random, instrument: str) -> Player:
    """Somebody who plays an instrument; most play from the start."""
    start = chance.choice((0, 0, 0, chance.randrange(STEPS - 3)))
    return Player(
        instrument,
        x=chance.random(),
        seen=chance.random() < 0.85,
        heard=chance.random() < 0.85,
        start=start,
        end=STEPS if start == 0 and chance.random() < 0.5 else chance.randrange(start + 2, STEPS + 1),
        loudness=chance.random(),
        rhythm=chance.random(),
    )


def changed(scene: Scene, chance: random.Random, likely: Sequence[str]) -> Scene:
    """The scene with one random change."""
    players = list(scene.players)
    kind = chance.choices(range(6), (3, 1, 1, 3, 3, 5))[0]
    if kind == 0:
        name = chance.choice(likely) if chance.random() < 0.5 else chance.choice(INSTRUMENTS)
        return replace(scene, players=(*players, random_player(chance, name)))
    if kind == 1:  # an ensemble of one instrument
        name = chance.choice(likely)
        others = [player for player in players if player.instrument != name]
        same = [random_player(chance, name) for _ in range(chance.randrange(len(NUMBERS)))]
        return replace(scene, players=(*others, *same))
    if kind == 2:
        switch = chance.choice(("indoor", "voice", "speaker"))
        return replace(scene, **{switch: not getattr(scene, switch)})
    if not players:
        return scene
    index = chance.randrange(len(players))
    if kind == 3:
        del players[index]
    elif kind == 4:
        players[index] = random_player(chance, players[index].instrument)
    else:
        players[index] = replace(players[index], **random_change(players[index], chance))
    return replace(scene, players=tuple(players))


def random_change(player: Player, chance: random.Random) -> dict[str, object]:
    """A new value for one attribute of a player; seen and heard flip."""
    other = random_player(chance, player.instrument)
    name = chance.choice(("x", "seen", "heard", "time", "loudness", "rhythm"))
    if name == "time":
        return {"start": other.start, "end": other.end}
    return {name: not getattr(player, name) if name in ("seen", "heard") else getattr(other, name)}


SOUND_SIZE = 3 * len(INSTRUMENTS) + 1
PICTURE_SIZE = (len(PLACES) + 1) * len(INSTRUMENTS) + 2


def sound(scene: Scene) -> np.ndarray:
    """What is heard at each step, `(STEPS, SOUND_SIZE)` float32, without what is seen.

    Per instrument how many sound, and the loudness and the rhythm of the one that stands out; then whether somebody
    speaks.
    """
    values = np.zeros((STEPS, 3, len(INSTRUMENTS)), np.float32)
    for player in scene.heard:
        index, steps = INSTRUMENTS.index(player.instrument), slice(player.start, player.end)
        values[steps, 0, index] += 1
        values[steps, 1, index] = np.maximum(values[steps, 1, index], 2 * player.loudness)
        values[steps, 2, index] = np.maximum(values[steps, 2, index], 2 * player.rhythm)
    voice = np.full((STEPS, 1), float(scene.voice), np.float32)
    return np.concatenate([values.reshape(STEPS, -1), 2 * voice], axis=1)


def picture(scene: Scene) -> np.ndarray:
    """What is seen at each step, `(STEPS, PICTURE_SIZE)` float32, without what is heard.

    Per place and instrument how many there are, per instrument where the leftmost one is (from 1 to 2, 0 for none);
    then whether it is indoors and whether a speaker is there.
    """
    counts = np.zeros((len(PLACES), len(INSTRUMENTS)), np.float32)
    where = np.zeros(len(INSTRUMENTS), np.float32)
    for player in sorted(scene.seen, key=lambda player: -player.x):
        index = INSTRUMENTS.index(player.instrument)
        counts[PLACES.index(player.place), index] += 1
        where[index] = 1 + player.x
    rest = np.array([2 * scene.indoor, 2 * scene.speaker], np.float32)
    return np.tile(np.concatenate([counts.ravel(), where, rest]), (STEPS, 1))
