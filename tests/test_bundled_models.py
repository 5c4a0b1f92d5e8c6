"""The models that come with the package do what their cards say, on a real recording and without any other data."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

from hiss.audio import Audio
from hiss.evaluation.embeddings import find
from hiss.evaluation.judge import Judge
from hiss.evaluation.music import TRAITS
from hiss.evaluation.speech import si_sdr
from hiss.pipeline import Pipeline, bundled, load

DENOISERS = [name for name in bundled() if name.startswith("denoise")]
GAIN = {"denoise-16k": 4.5, "denoise-48k": 4.0}
"""dB of SI-SDR that each gains on the recording that comes with the package, with a little to spare."""
FAITHFUL = {"denoise-16k": 20.0, "denoise-48k": 16.0}
"""dB of SI-SDR that it leaves clean speech with, likewise."""


@pytest.fixture(scope="module", params=DENOISERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def denoiser(name: str) -> Pipeline:
    return load(name)


@pytest.fixture(scope="module")
def clean() -> Audio:
    return Audio.load(Path(str(files("hiss") / "recordings" / "speech.flac")))


@pytest.fixture(scope="module")
def noisy() -> Audio:
    return Audio.load(Path(str(files("hiss") / "recordings" / "noisy-speech.flac")))


def ratio(clean: Audio, processed: Audio) -> float:
    """Returns the SI-SDR in dB."""
    found = si_sdr(clean, processed)
    assert found is not None
    return found


def test_noise_goes_and_speech_stays(name: str, denoiser: Pipeline, clean: Audio, noisy: Audio) -> None:
    assert ratio(clean, denoiser.denoise(noisy)) > ratio(clean, noisy) + GAIN[name]


def test_a_second_step_does_no_harm(denoiser: Pipeline, clean: Audio, noisy: Audio) -> None:
    once, twice = (ratio(clean, denoiser.denoise(noisy, steps=steps)) for steps in (1, 2))
    assert twice > once - 0.5


def test_clean_speech_is_left_alone(name: str, denoiser: Pipeline, clean: Audio) -> None:
    assert ratio(clean, denoiser.denoise(clean)) > FAITHFUL[name]


def test_noise_alone_becomes_quiet(denoiser: Pipeline, clean: Audio, noisy: Audio) -> None:
    noise = Audio(noisy.samples - clean.samples, clean.sample_rate)
    assert denoiser.denoise(noise).rms < 0.2 * noise.rms


def test_a_stream_is_the_whole(denoiser: Pipeline, noisy: Audio) -> None:
    stream = denoiser.stream(noisy.sample_rate)
    pieces = [stream.push(piece) for piece in noisy.samples.split(777, dim=1)]
    whole = denoiser.denoise(noisy, causal=True).samples
    torch.testing.assert_close(torch.cat([*pieces, stream.finish()], dim=1), whole, atol=1e-4, rtol=0)


def test_the_digits_are_those_that_were_asked_for() -> None:
    asked = [digit for digit in range(10) for _ in range(2)]
    sounds = load("digits").generate([str(digit) for digit in range(10)], count=2, seed=0)
    answers = Judge.from_pretrained().classify(torch.cat([sound.samples for sound in sounds]))["digit"]
    assert int((answers.argmax(dim=1) == torch.tensor(asked)).sum()) >= 19


def test_all_models_together_are_small() -> None:
    folders = [Path(str(files("hiss") / "pretrained" / name)) for name in bundled()]
    sizes = {folder.name: (folder / "model.safetensors").stat().st_size / 1e6 for folder in folders}
    assert sum(sizes.values()) < 80
    assert sizes["sounds"] < 40
    assert sizes["classical"] < 20


def test_music_has_tones_notes_and_a_sensible_level() -> None:
    for piece in load("classical").generate(count=2, length=7.0, seed=0):
        heard = {name: trait(piece) for name, trait in TRAITS.items()}
        assert heard["grid"] > 0.55
        assert 1.5 < heard["onsets"] < 7
        assert 700 < heard["centroid"] < 2700
        assert -26 < heard["level"] < -12
        assert heard["silence"] == 0


def test_sounds_are_heard_as_what_was_asked_for() -> None:
    families = {
        "a fast rock beat on a drum kit": "drums",
        "a snare drum roll, rapid strokes, loud": "percussion",
        "people clapping their hands": "sound effect",
        "a church organ holds a low C major chord": "organ",
        "one high note, A, from a flute": "woodwind",
        "a violin plays a trill between D and E": "strings",
        "a marimba plays a low E": "mallet",
    }
    heard = find("sounds")(load("sounds").generate(list(families), count=1, seed=1))
    named = [heard.classes["family"][row] for row in heard.probabilities["family"].argmax(dim=-1).tolist()]
    assert sum(one == family for one, family in zip(named, families.values(), strict=True)) >= 5


def test_sounds_of_a_batch_are_those_that_are_made_alone() -> None:
    pipeline = load("sounds")
    prompts = ["a flute plays a C", "a drum roll", "a flute plays a D"]
    together = pipeline.generate(prompts, count=1, seed=1, steps=2, batch_size=3)
    alone = pipeline.generate(prompts, count=1, seed=1, steps=2, batch_size=1)
    assert all(torch.equal(one.samples, other.samples) for one, other in zip(together, alone, strict=True))
