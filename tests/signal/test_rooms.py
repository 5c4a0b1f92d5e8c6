"""Rooms: the image-source method against what can be said of it on paper."""

from math import pi

import pytest
import torch

from hiss.audio import Audio
from hiss.noise import seeded
from hiss.signal.noises import convolve
from hiss.signal.rooms import SPEED_OF_SOUND, Shoebox, random_response, reflection, reverberate

RATE = 16000
DEAD = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))


def arrival(distance: float) -> float:
    """Returns the sample in which sound arrives."""
    return distance / SPEED_OF_SOUND * RATE


@pytest.mark.parametrize("distance", [0.5, 1.0, 2.0])
def test_without_reflections_only_the_direct_sound_arrives_in_time_and_falls_with_distance(distance: float) -> None:
    room = Shoebox((6, 5, 3), (1.0, 2.0, 1.5), (1.0 + distance, 2.0, 1.5), DEAD)
    response = room.response(sample_rate=RATE, seconds=0.1)
    assert response.shape == (1600,)
    # Between samples the peak is spread, but not the sum, and the phase tells the delay.
    assert float(response.sum()) == pytest.approx(1 / (4 * pi * distance), rel=5e-3)
    turns = torch.fft.rfft(response)[200].angle() / (2 * pi)
    expected = -arrival(distance) * 200 / 1600
    assert float((turns - expected + 0.5) % 1 - 0.5) == pytest.approx(0, abs=0.005)
    assert abs(int(response.argmax()) - arrival(distance)) <= 0.51


def test_each_wall_adds_its_first_reflection_where_the_mirror_image_is() -> None:
    size, source, microphone = (6.0, 5.0, 3.0), (2.0, 3.0, 1.2), (4.0, 2.0, 1.7)
    for axis in range(3):
        for side in range(2):
            walls = [[0.0, 0.0] for _ in range(3)]
            walls[axis][side] = 0.8
            (x0, x1), (y0, y1), (z0, z1) = walls
            quiet = Shoebox(size, source, microphone, DEAD).response(sample_rate=RATE, seconds=0.1)
            room = Shoebox(size, source, microphone, ((x0, x1), (y0, y1), (z0, z1)))
            added = room.response(sample_rate=RATE, seconds=0.1) - quiet
            image = list(source)
            image[axis] = -source[axis] if side == 0 else 2 * size[axis] - source[axis]
            distance = sum((a - b) ** 2 for a, b in zip(image, microphone, strict=True)) ** 0.5
            assert abs(int(added.argmax()) - arrival(distance)) <= 0.51
            assert float(added.sum()) == pytest.approx(0.8 / (4 * pi * distance), rel=5e-3)


def test_a_reflection_off_two_walls_has_both_their_factors() -> None:
    walls = ((0.5, 0.0), (0.6, 0.0), (0.0, 0.0))
    room = Shoebox((6.0, 5.0, 3.0), (1.0, 1.0, 1.5), (2.0, 2.0, 1.5), walls)
    total = float(room.response(sample_rate=RATE, seconds=0.1).sum())
    # Directly, off the wall x = 0, off y = 0, and off both.
    expected = 1 / 2**0.5 + 0.5 / 10**0.5 + 0.6 / 10**0.5 + 0.3 / 18**0.5
    assert total == pytest.approx(expected / (4 * pi), rel=5e-3)


def test_sound_falls_by_sixty_decibels_in_about_the_reverberation_time() -> None:
    size, seconds = (6.0, 4.5, 3.0), 0.4
    walls = (reflection(size, seconds),) * 2
    room = Shoebox(size, (1.5, 2.0, 1.3), (4.0, 3.0, 1.6), (walls, walls, walls))
    response = room.response(sample_rate=RATE, seconds=0.5, jitter=0.08, generator=seeded(0))
    heard = Audio(response, RATE).high_pass(50).samples[0]  # below, all images add up
    left = heard.double().square().flip(0).cumsum(0).flip(0)
    fall = 10 * torch.log10(left / left[0])
    early, late = (int((fall < limit).nonzero()[0]) for limit in (-5, -25))
    assert 3 * (late - early) / RATE == pytest.approx(seconds, rel=0.3)


def test_a_room_that_is_less_damped_reflects_more() -> None:
    assert 0 < reflection((5, 4, 3), 0.2) < reflection((5, 4, 3), 0.8) < 1


def test_random_responses_begin_with_the_direct_sound_and_are_fixed_by_the_seed() -> None:
    lengths = set()
    for seed in range(8):
        response = random_response(seeded(seed), sample_rate=RATE)
        lengths.add(len(response))
        assert float(response[:6].abs().amax()) == pytest.approx(1)
        assert bool(torch.isfinite(response).all())
        assert torch.equal(response, random_response(seeded(seed), sample_rate=RATE))
    assert len(lengths) == 8


def test_the_early_part_has_no_late_reflection_and_nothing_is_delayed() -> None:
    audio = torch.randn(2, 3000, generator=seeded(0))
    response = torch.zeros(2000)
    response[0], response[100], response[1500] = 1.0, 0.5, 0.3
    heard, early = reverberate(audio, response, early=800)
    torch.testing.assert_close(heard, convolve(audio, response), atol=1e-5, rtol=0)
    torch.testing.assert_close(early, audio + 0.5 * torch.nn.functional.pad(audio, (100, 0))[:, :3000])
    torch.testing.assert_close(heard[:, :1500], early[:, :1500], atol=1e-5, rtol=0)


def test_a_response_shorter_than_the_early_part_is_all_early_or_fades() -> None:
    audio = torch.randn(1, 500, generator=seeded(0))
    heard, early = reverberate(audio, torch.tensor([1.0, 0.2]), early=800)
    torch.testing.assert_close(heard, early)
