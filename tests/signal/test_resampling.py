"""Resampling in pieces: the same as in one, as long, never later than stated; and as a whole: nothing below is lost."""

import pytest
import soxr
import torch

from hiss.audio import Audio
from hiss.signal.resampling import ResampleStream, resample_period, resample_wide, resampling_delay

RATES = [(48000, 16000), (16000, 48000), (44100, 16000), (8000, 16000), (16000, 16000)]


@pytest.mark.parametrize(("rate", "to"), RATES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("piece", [1, 100, 5000])
def test_pieces_are_the_whole(rate: int, to: int, channels: int, piece: int) -> None:
    signal = torch.randn(channels, 4999, generator=torch.Generator().manual_seed(0))
    stream = ResampleStream(rate, to, channels)
    parts = [stream.push(one) for one in signal.split(piece, dim=1)]
    parts.append(stream.push(signal[:, :0], last=True))
    whole = torch.from_numpy(soxr.resample(signal.T.numpy(), rate, to)).T
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_nothing_stays_nothing(rate: int, to: int) -> None:
    assert ResampleStream(rate, to, 2).push(torch.zeros(2, 0), last=True).shape == (2, 0)


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_the_delay_holds_for_any_pieces(rate: int, to: int) -> None:
    delay, stream, given, piece = resampling_delay(rate, to), ResampleStream(rate, to, 1), 0, 37
    assert delay < 0.2
    for taken in range(piece, rate, piece):
        given += stream.push(torch.zeros(1, piece)).shape[1]
        assert taken / rate - given / to <= delay + piece / rate


@pytest.mark.parametrize("turns", [3, 4])  # the second is half the lower rate
@pytest.mark.parametrize(("before", "after"), [(8, 16), (16, 8), (8, 9), (9, 8)])
def test_a_period_keeps_its_fourier_series(before: int, after: int, turns: int) -> None:
    def cosine(samples: int) -> torch.Tensor:
        return torch.cos(2 * torch.pi * turns * torch.arange(samples) / samples)

    torch.testing.assert_close(resample_period(cosine(before), after), cosine(after))


@pytest.mark.parametrize(
    ("rate", "to"), [(48000, 16000), (44100, 16000), (16000, 48000), (16000, 44100), (22050, 16000)]
)
@pytest.mark.parametrize("share", [0.01, 0.5, 0.96])
def test_wide_resampling_keeps_what_the_lower_rate_can_hold(rate: int, to: int, share: float) -> None:
    def tone(at: int) -> torch.Tensor:
        return torch.sin(torch.pi * share * min(rate, to) * torch.arange(at // 2, dtype=torch.float64) / at)[None]

    made, wanted, edge = resample_wide(tone(rate), rate, to), tone(to), to // 20
    torch.testing.assert_close(made[:, edge:-edge], wanted[:, edge:-edge], atol=0.01, rtol=0)


def test_wide_resampling_keeps_out_what_the_lower_rate_cannot_hold() -> None:
    tone = torch.sin(torch.pi * 16100 * torch.arange(48000, dtype=torch.float64) / 48000)[None]
    assert resample_wide(tone, 48000, 16000)[:, 800:-800].abs().max() < 0.001


@pytest.mark.parametrize(("rate", "to"), RATES)
@pytest.mark.parametrize("samples", [0, 1, 7, 4999])
def test_wide_resampling_gives_as_many_samples_as_the_usual(rate: int, to: int, samples: int) -> None:
    signal = torch.ones(2, samples)
    assert resample_wide(signal, rate, to).shape == Audio(signal, rate).resample(to).samples.shape


def test_wide_resampling_of_long_sounds_has_no_seams() -> None:
    tone = torch.sin(torch.pi * 15000 * torch.arange(48000 * 90, dtype=torch.float64) / 48000)[None]
    wanted = torch.sin(torch.pi * 15000 * torch.arange(16000 * 90, dtype=torch.float64) / 16000)[None]
    made = resample_wide(tone, 48000, 16000)
    torch.testing.assert_close(made[:, 800:-800], wanted[:, 800:-800], atol=0.001, rtol=0)
