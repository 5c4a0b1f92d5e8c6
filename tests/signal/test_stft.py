"""The short-time Fourier transform: perfect reconstruction, framing, known spectra."""

import pytest
import torch

from hiss.signal.stft import IstftStream, StftStream, Window, compress, istft, stft


@pytest.mark.parametrize("samples", [1, 7, 63, 64, 65, 500, 1000, 1023])
@pytest.mark.parametrize(("n_fft", "hop"), [(128, 32), (128, 64), (96, 40)])
def test_the_inverse_gives_the_audio_back_at_any_length(samples: int, n_fft: int, hop: int) -> None:
    audio = torch.randn(2, 3, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    spectrum = stft(audio, n_fft=n_fft, hop=hop)
    assert spectrum.shape == (2, 3, n_fft // 2 + 1, -(-samples // hop) + 1)
    torch.testing.assert_close(istft(spectrum, hop=hop, samples=samples), audio, rtol=0, atol=1e-12)


def test_the_sine_window_is_inverted_too_and_keeps_the_energy_at_half_overlap() -> None:
    audio = torch.randn(1000, dtype=torch.float64)
    spectrum = stft(audio, n_fft=64, hop=32, window="sine")
    torch.testing.assert_close(istft(spectrum, hop=32, samples=1000, window="sine"), audio, rtol=0, atol=1e-12)
    both_sides = spectrum.abs().square().sum() * 2 - spectrum[[0, -1]].abs().square().sum()
    assert float(both_sides / 64) == pytest.approx(float(audio.square().sum()))


def test_compression_raises_magnitudes_and_is_undone_by_the_inverse_exponent() -> None:
    spectrum = torch.tensor([3 + 4j, -8j, 1e-9, 0j], dtype=torch.complex128)
    pressed = compress(spectrum, 0.5, floor=1e-12)
    torch.testing.assert_close(pressed[0], torch.tensor((3 + 4j) / 5**0.5, dtype=torch.complex128))
    torch.testing.assert_close(pressed[1], torch.tensor(-1j * 8**0.5, dtype=torch.complex128))
    torch.testing.assert_close(compress(pressed, 2.0, floor=1e-12**0.5), spectrum, atol=1e-15, rtol=1e-12)


def test_audio_may_have_no_batch_dimension() -> None:
    assert stft(torch.zeros(100), n_fft=64, hop=16).shape == (33, 8)
    assert istft(torch.zeros(33, 8, dtype=torch.complex64), hop=16, samples=100).shape == (100,)


def test_a_sine_in_the_middle_of_a_bin_has_half_of_the_window_sum() -> None:
    n_fft, k = 64, 8
    audio = torch.cos(2 * torch.pi * k / n_fft * torch.arange(640, dtype=torch.float64))
    magnitude = stft(audio, n_fft=n_fft, hop=16).abs()[:, 10]
    assert magnitude[k].item() == pytest.approx(n_fft / 4)  # a Hann window sums to n_fft / 2
    assert magnitude[k + 2 :].max().item() < 1e-9


def test_frame_k_is_centred_on_sample_k_times_hop() -> None:
    audio = torch.zeros(256)
    audio[96] = 1.0
    energy = stft(audio, n_fft=64, hop=32).abs().square().sum(dim=0)
    assert energy.argmax().item() == 3


@pytest.mark.parametrize("piece", [1, 31, 64, 1000])
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 500])
@pytest.mark.parametrize(
    ("n_fft", "hop", "window"), [(64, 32, "sine"), (64, 16, "hann"), (96, 40, "hann"), (64, 7, "sine")]
)
def test_pieces_have_the_spectrum_and_the_audio_of_the_whole(
    piece: int, samples: int, n_fft: int, hop: int, window: Window
) -> None:
    audio = torch.randn(2, 3, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    whole = stft(audio, n_fft=n_fft, hop=hop, window=window)
    there, back = (kind(n_fft=n_fft, hop=hop, window=window) for kind in (StftStream, IstftStream))
    pieces = [there.push(one) for one in audio.split(piece, dim=-1)]
    pieces.append(there.push(audio[..., :0], last=True))
    spectrum = torch.cat(pieces, dim=-1)
    torch.testing.assert_close(spectrum, whole, atol=1e-12, rtol=0)
    changed = whole * torch.rand(whole.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, last = changed[..., :-1], changed[..., -1:]
    parts = [back.push(one) for one in first.split(3, dim=-1)] + [back.push(last, last=True)]
    expected = istft(changed, hop=hop, samples=(whole.shape[-1] - 1) * hop, window=window)
    torch.testing.assert_close(torch.cat(parts, dim=-1), expected, atol=1e-12, rtol=0)


def test_a_sine_window_at_half_overlap_delays_by_one_window() -> None:
    there, back = StftStream(n_fft=64, hop=32, window="sine"), IstftStream(n_fft=64, hop=32, window="sine")
    given = [back.push(there.push(torch.zeros(1))).shape[0] for _ in range(100)]
    assert [number for number, samples in enumerate(given, 1) if samples] == [64, 96]
