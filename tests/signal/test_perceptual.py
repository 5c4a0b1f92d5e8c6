"""The sketch of PESQ: what it is deaf to, what it hears, and that it agrees with the measure itself."""

from importlib.resources import files

import pytest
import torch
from torch import Tensor

from hiss import Audio
from hiss.noise import seeded
from hiss.signal.mixing import mix
from hiss.signal.perceptual import perceptual_error

RATE = 16000


@pytest.fixture(scope="module")
def speech() -> Tensor:
    recording = Audio.load(str(files("hiss") / "recordings/speech.flac"))
    return recording.samples[None, :, : 3 * RATE]


def noisy(speech: Tensor, snr: float) -> Tensor:
    noise = torch.randn(speech[0].shape, generator=seeded("perceptual"))
    return mix(speech[0], noise, snr, frame=320)[None]


def test_speech_itself_has_no_error_at_any_level(speech: Tensor) -> None:
    assert perceptual_error(speech, speech, sample_rate=RATE).item() < 0.01
    assert perceptual_error(0.1 * speech, speech, sample_rate=RATE).item() < 0.01


def test_more_noise_is_a_larger_error(speech: Tensor) -> None:
    errors = [perceptual_error(noisy(speech, snr), speech, sample_rate=RATE).item() for snr in (30, 20, 10, 0)]
    assert errors == sorted(errors)
    assert errors[0] < 2
    assert 3 < errors[-1] < 5


def test_noise_that_is_added_weighs_more_than_speech_that_is_taken_away(speech: Tensor) -> None:
    lacking, added = 0.5 * speech, speech.clone()
    lacking[..., :RATE] = speech[..., :RATE]
    added[..., RATE:] += 0.05 * torch.randn(speech[..., RATE:].shape, generator=seeded("perceptual"))
    errors = [perceptual_error(sound, speech, sample_rate=RATE).item() for sound in (lacking, added)]
    assert errors[0] < 0.5 * errors[1]


def test_the_rate_of_the_recording_hardly_matters(speech: Tensor) -> None:
    both = [Audio(sound[0], RATE).resample(3 * RATE).samples for sound in (noisy(speech, 10), speech)]
    fast = [sound[None] for sound in both]
    slow = perceptual_error(noisy(speech, 10), speech, sample_rate=RATE)
    torch.testing.assert_close(perceptual_error(*fast, sample_rate=3 * RATE), slow, rtol=0.05, atol=0.05)


def test_silence_that_is_wanted_has_no_error(speech: Tensor) -> None:
    assert perceptual_error(speech, torch.zeros_like(speech), sample_rate=RATE).item() == 0


def test_an_item_is_judged_by_itself(speech: Tensor) -> None:
    sounds = torch.cat([noisy(speech, snr) for snr in (0, 10)])
    together = perceptual_error(sounds, speech.expand(2, -1, -1), sample_rate=RATE)
    alone = torch.cat([perceptual_error(sound[None], speech, sample_rate=RATE) for sound in sounds])
    torch.testing.assert_close(together, alone)


def test_it_ranks_recordings_as_pesq_does(speech: Tensor) -> None:
    pesq = pytest.importorskip("pesq", reason="needs the package pesq (pip install hiss[metrics])")
    sounds = [noisy(speech, snr) for snr in range(0, 35, 5)]
    scores = [pesq.pesq(RATE, speech[0, 0].numpy(), sound[0, 0].numpy(), "wb") for sound in sounds]
    errors = torch.cat([perceptual_error(sound, speech, sample_rate=RATE) for sound in sounds])
    both = torch.stack([torch.tensor(scores), -errors])
    assert torch.corrcoef(both)[0, 1] > 0.9


def test_it_is_computed_in_float32_also_where_training_is_not(speech: Tensor) -> None:
    worse = noisy(speech, 10.0)
    wanted = perceptual_error(worse, speech, sample_rate=RATE)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(perceptual_error(worse, speech, sample_rate=RATE), wanted)
