"""Reports on denoisers: means by group, speed and size, pairs in folders, what does not fit together."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from hiss.audio import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.denoising import DenoiseSystem, DenoisingReport, count_macs, draw, evaluate_denoising
from hiss.evaluation.measures import measures
from hiss.evaluation.pairs import SpeechPair, find_pairs, read_pairs

RATE = 8000
CLOSED = measures(["distances", "levels"])


def pair(snr: float | None = 0.0, *, noise: str | None = None, name: str | None = None) -> SpeechPair:
    """Returns a tone with orthogonal noise at an SNR in dB."""
    angle = 2 * torch.pi * 440 * torch.arange(RATE) / RATE
    clean, other = torch.sin(angle), torch.cos(angle)
    level = 10 ** (-(snr or 0.0) / 20)
    noisy = Audio(clean + level * other, RATE)
    return SpeechPair(name or f"{noise} {snr}", Audio(clean, RATE), noisy, snr, noise)


def tidy(noisy: Audio) -> Audio:
    """Takes away 90 % of the noise of `pair`."""
    angle = 2 * torch.pi * 440 * torch.arange(RATE) / RATE
    cosine = torch.cos(angle)
    share = (noisy.samples * cosine).sum() / cosine.square().sum()
    return Audio(noisy.samples - 0.9 * share * cosine, RATE)


def evaluated(pairs: Sequence[SpeechPair], *systems: DenoiseSystem) -> DenoisingReport:
    return evaluate_denoising(pairs, systems, chosen=CLOSED)


def test_figures_are_means_overall_by_snr_by_noise_and_stand_for_each_file() -> None:
    pairs = [pair(-5, noise="white"), pair(5, noise="white"), pair(5, noise="rain")]
    report = evaluated(pairs, DenoiseSystem("tidy", tidy))
    noisy, cleaned = report.systems
    assert (noisy.name, cleaned.name) == ("noisy", "tidy")
    assert noisy.overall["si_sdr"] == pytest.approx(5 / 3, abs=1e-3)
    assert cleaned.overall["si_sdr"] == pytest.approx(20 + 5 / 3, abs=1e-3)
    assert {name: figures["si_sdr"] for name, figures in noisy.snr.items()} == pytest.approx(
        {"-5 dB": -5, "5 dB": 5}, abs=1e-3
    )
    assert {name: figures["si_sdr"] for name, figures in noisy.noise.items()} == pytest.approx(
        {"rain": 5, "white": 0}, abs=1e-3
    )
    assert noisy.file["rain 5"]["si_sdr"] == pytest.approx(5, abs=1e-3)
    assert report.files == 3
    assert report.seconds == 3


def test_what_is_not_known_makes_no_group() -> None:
    report = evaluated([pair(None)])
    assert report.systems[0].snr == {}
    assert report.systems[0].noise == {}


def test_many_different_snrs_are_grouped_to_the_nearest_5_db() -> None:
    report = evaluated([pair(0.3 * index, name=str(index)) for index in range(20)])
    assert list(report.systems[0].snr) == ["0 dB", "5 dB"]


def test_a_figure_that_is_not_defined_for_some_files_is_counted_and_left_out_of_the_mean() -> None:
    sound = pair(0)
    alone = SpeechPair("alone", Audio(torch.zeros(RATE), RATE), sound.noisy)
    [noisy] = evaluated([sound, alone]).systems
    assert noisy.overall["si_sdr"] == pytest.approx(0, abs=1e-3)
    assert noisy.missing["si_sdr"] == 1
    assert noisy.overall["attenuation"] == 0
    assert noisy.file["alone"]["si_sdr"] is None
    [silent] = evaluated([alone]).systems
    assert silent.overall["si_sdr"] is None
    assert "si_sdr" not in silent.missing


def test_a_report_is_json_and_a_table_with_the_columns_that_are_defined() -> None:
    system = DenoiseSystem("tidy", tidy, latency=0.03)
    report = evaluated([pair(0, noise="white"), pair(5, noise="white")], system)
    assert json.loads(json.dumps(report.to_dict()))["systems"][1]["latency"] == 0.03
    heads, noisy, cleaned = report.table()
    assert heads == ["system", "SI-SDR", "SSNR", "LSD", "level", "RTF", "MMAC/s", "latency, ms"]
    assert (noisy[0], noisy[1]) == ("noisy", "2.50")
    assert (cleaned[0], cleaned[1], cleaned[-1]) == ("tidy", "22.50", "30")
    assert [row[:3] for row in report.table("snr")] == [
        ["snr", "system", "SI-SDR"],
        ["0 dB", "noisy", "0.00"],
        ["0 dB", "tidy", "20.00"],
        ["5 dB", "noisy", "5.00"],
        ["5 dB", "tidy", "25.00"],
    ]
    assert len(report.table("noise", shown=["level"])[0]) == 3
    assert len(report.table("file")) == 5


def test_systems_run_on_one_thread_and_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    seen = []

    def look(audio: Audio) -> Audio:
        seen.append(torch.get_num_threads())
        return audio

    torch.set_num_threads(2)
    try:
        [_, system] = evaluated([pair()], DenoiseSystem("looks", look)).systems
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1]  # counted, then timed
    assert 0 < system.rtf < 1
    assert system.macs is None


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_multiply_accumulates_are_those_of_the_matrices(kind: type[nn.GRU] | type[nn.LSTM]) -> None:
    layer = kind(8, 16, batch_first=True)

    def denoise(audio: Audio) -> Audio:
        with torch.inference_mode():
            layer(audio.samples.reshape(1, -1, 8))
        return audio

    weights = sum(weight.numel() for weight in layer.parameters() if weight.ndim == 2)
    assert count_macs(DenoiseSystem("layer", denoise), pair().noisy) == RATE / 8 * weights


def test_no_library_hides_its_matrices_while_they_are_counted() -> None:
    libraries = (torch.backends.mkldnn, torch.backends.cudnn)
    seen: list[bool] = []

    def look(audio: Audio) -> Audio:
        seen.extend(library.enabled for library in libraries)
        return audio

    before = [library.enabled for library in libraries]
    count_macs(DenoiseSystem("looks", look), pair().noisy)
    assert seen == [False, False]
    assert [library.enabled for library in libraries] == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_multiply_accumulates_are_the_same_on_a_gpu(kind: type[nn.GRU] | type[nn.LSTM]) -> None:
    def macs(device: str) -> float | None:
        layer = kind(8, 16, batch_first=True).to(device)

        def denoise(audio: Audio) -> Audio:
            with torch.inference_mode():
                layer(audio.samples.reshape(1, -1, 8).to(device))
            return audio

        return count_macs(DenoiseSystem("layer", denoise), pair().noisy)

    assert macs("cuda") == macs("cpu")


def test_what_is_no_denoiser_is_refused() -> None:
    wrong = {
        "other rate": lambda audio: Audio(audio.samples, 16000),
        "shorter": lambda audio: Audio(audio.samples[:, 1:], RATE),
        "more channels": lambda audio: audio.to_channels(2),
    }
    for name, denoise in wrong.items():
        with pytest.raises(HissError, match=f"^{name} made .* a denoiser keeps rate and length"):
            evaluated([pair()], DenoiseSystem(name, denoise))
    broken = DenoiseSystem("broken", lambda audio: Audio(audio.samples * float("nan"), RATE))
    with pytest.raises(HissError, match="broken made NaN"):
        evaluated([pair()], broken)
    with pytest.raises(UsageError, match="different names"):
        evaluated([pair()], DenoiseSystem("noisy", tidy))
    with pytest.raises(HissError, match="no recordings"):
        evaluated([])


def test_recordings_that_do_not_fit_together_are_no_pair() -> None:
    one = Audio(torch.ones(100), RATE)
    with pytest.raises(HissError, match="a is clean at 8000 Hz but noisy at 16000 Hz"):
        SpeechPair("a", one, Audio(torch.ones(100), 16000))
    with pytest.raises(HissError, match="100 samples of 1 channels and noisy 99 samples"):
        SpeechPair("a", one, Audio(torch.ones(99), RATE))
    with pytest.raises(HissError, match="no samples"):
        SpeechPair("a", Audio(torch.ones(0), RATE), Audio(torch.ones(0), RATE))


def save(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        pair().noisy.normalize().save(folder / name)
    return folder


def test_pairs_are_found_by_name_and_know_their_snr_and_noise(tmp_path: Path) -> None:
    clean = save(tmp_path / "clean", "a.wav", "b_snr5.flac", "c_-2.5dB.wav", "d.wav")
    noisy = save(tmp_path / "noisy", "noisy_a.wav", "b_snr5.wav", "noisy_c_-2.5dB.flac", "d.wav")
    (noisy / "noisy_a.json").write_text('{"snr_db": 7, "noise": "rain"}')
    pairs = list(read_pairs(find_pairs(clean, noisy)))
    assert [(one.name, one.snr, one.noise) for one in pairs] == [
        ("a", 7, "rain"),
        ("b_snr5", 5, None),
        ("c_-2.5dB", -2.5, None),
        ("d", None, None),
    ]


def test_recordings_without_their_other_are_named(tmp_path: Path) -> None:
    clean, noisy = save(tmp_path / "clean", "a.wav", "b.wav"), save(tmp_path / "noisy", "noisy_a.wav")
    with pytest.raises(HissError, match=r"b\.wav has no noisy version in .*; expected noisy_b\.wav or b\.wav"):
        find_pairs(clean, noisy)
    save(noisy, "b.wav", "noisy_c.wav")
    with pytest.raises(HissError, match=r"noisy_c\.wav has no clean version in .*; expected c\.wav"):
        find_pairs(clean, noisy)
    with pytest.raises(HissError, match="nowhere holds no recordings"):
        find_pairs(clean, tmp_path / "nowhere")


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    clean, noisy = save(tmp_path / "clean", "a.wav", "a.flac"), save(tmp_path / "noisy", "a.wav")
    with pytest.raises(HissError, match=r"a\.flac and .*a\.wav have one name"):
        find_pairs(clean, noisy)


def test_damaged_facts_beside_a_recording_are_refused(tmp_path: Path) -> None:
    clean, noisy = save(tmp_path / "clean", "a.wav"), save(tmp_path / "noisy", "a.wav")
    for facts, says in (("{", "is no JSON"), ('{"snr_db": "loud"}', "snr_db is no number")):
        (noisy / "a.json").write_text(facts)
        with pytest.raises(HissError, match=says):
            list(read_pairs(find_pairs(clean, noisy)))


@pytest.mark.parametrize("snr", ["Infinity", "-Infinity", "NaN", "1e999", '"inf"'])
def test_an_snr_that_is_not_finite_is_not_known(tmp_path: Path, snr: str) -> None:
    clean, noisy = save(tmp_path / "clean", "a.wav", "b_snr5.wav"), save(tmp_path / "noisy", "a.wav", "b_snr5.wav")
    (noisy / "a.json").write_text(f'{{"snr_db": {snr}}}')
    pairs = list(read_pairs(find_pairs(clean, noisy)))
    assert [one.snr for one in pairs] == [None, 5]
    assert list(evaluated(pairs).systems[0].snr) == ["5 dB"]


def test_a_picture_shows_noisy_denoised_and_clean(tmp_path: Path) -> None:
    pytest.importorskip("librosa")
    draw(pair(), [DenoiseSystem("tidy", tidy)], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
