"""Every registered vocoder makes as many samples as it hears, and learns; HiFi-GAN equals that of transformers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.errors import HissError, UsageError
from hiss.noise import seeded
from hiss.signal.mel import MelProfile
from hiss.vocoders import Vocoder, VocoderConfig, base, griffin_lim
from hiss.vocoders.griffin_lim import GriffinLimConfig
from hiss.vocoders.hifigan import HifiGanConfig
from hiss.vocoders.istft import IstftConfig

MEL = MelProfile(sample_rate=8000, n_fft=128, hop=40, bins=12, high=4000.0)
SMALL = {"mel": MEL, "channels": 16, "rates": (5, 4, 2), "kernels": (16, 8, 4)}
KINDS: dict[str, list[VocoderConfig]] = {
    "hifigan": [
        HifiGanConfig(**SMALL),  # type: ignore[arg-type]
        HifiGanConfig(
            mel=replace(MEL, hop=36),
            channels=8,
            rates=(6, 3, 2),
            kernels=(11, 6, 5),
            resblock=2,
            resblock_kernels=(3, 5),
            dilations=((1, 2), (2, 6)),
        ),
    ],
    "istft": [
        IstftConfig(mel=MEL, channels=16, blocks=2),
        IstftConfig(mel=replace(MEL, hop=25), channels=8, blocks=1, kernel=3, window=100),
    ],
}
KINDS["griffin_lim"] = [GriffinLimConfig(mel=MEL, iterations=2), GriffinLimConfig(mel=replace(MEL, hop=25))]
LEARNING = ("hifigan", "istft")
CONFIGS = [config for configs in KINDS.values() for config in configs]


def build(config: VocoderConfig) -> Vocoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build()


def chord(profile: MelProfile, samples: int = 1200) -> Tensor:
    """Returns [2, samples] of two tones each, in noise."""
    time = torch.arange(samples) / profile.sample_rate
    tones = torch.sin(6.2832 * torch.tensor([[300.0], [450.0]]) * time) + torch.sin(6.2832 * 900 * time)
    return 0.2 * tones + 0.01 * torch.randn(2, samples, generator=seeded("chord"))


def test_every_registered_vocoder_is_tested_here() -> None:
    assert set(VocoderConfig.members) == set(KINDS)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("samples", [1, 160, 1001])
def test_a_vocoder_makes_all_samples_of_its_frames(config: VocoderConfig, samples: int) -> None:
    vocoder, profile = build(config), config.mel
    made = vocoder(profile(torch.randn(2, 3, samples, generator=seeded(samples))))
    assert made.shape == (2, 3, profile.frames(samples) * profile.hop)
    assert made.shape[-1] >= samples
    assert bool(made.isfinite().all())


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_survives_the_round_trip_and_says_what_a_vocoder_hears(config: VocoderConfig) -> None:
    assert VocoderConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["mel"]["hop"] == config.mel.hop


@pytest.mark.parametrize("config", [config for kind in LEARNING for config in KINDS[kind]])
def test_a_vocoder_hears_each_band_at_zero_mean_and_unit_variance(config: VocoderConfig) -> None:
    vocoder = build(config)
    mel = config.mel(chord(config.mel))
    vocoder.fit([mel[:1], mel[1:]])
    normal = (mel - vocoder.mean[:, None]) / vocoder.scale[:, None]
    torch.testing.assert_close(normal.mean(dim=(0, 2)), torch.zeros(config.mel.bins), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.square().mean(dim=(0, 2)), torch.ones(config.mel.bins), atol=1e-3, rtol=0)
    with pytest.raises(HissError, match="silent"):
        vocoder.fit([config.mel(torch.zeros(1, 400))])
    with pytest.raises(HissError, match="no training audio"):
        vocoder.fit([])


@pytest.mark.parametrize("config", [KINDS[kind][0] for kind in LEARNING])
def test_a_vocoder_learns_and_every_weight_gets_a_gradient(config: VocoderConfig) -> None:
    vocoder, audio = build(config), chord(config.mel)
    mel = config.mel(audio)
    vocoder.fit([mel])
    optimizer = torch.optim.AdamW(vocoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = (config.mel(vocoder(mel)) - mel).abs().mean()
        loss.backward()
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in vocoder.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.75 * losses[0]


def test_the_head_puts_a_frame_where_the_profile_centres_it() -> None:
    # With the spectrum of a click in frame k, and silence elsewhere, sound comes around the middle of hop k.
    config = KINDS["istft"][0]
    vocoder = build(config)
    frames, k = 21, 8

    class Click(torch.nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            magnitude = torch.full((1, frames + 2, 65), -30.0)
            magnitude[:, k + 1] = 0.0
            # A window that is centred begins half of its length before its centre.
            phase = -torch.pi * torch.arange(65).expand_as(magnitude)
            return torch.cat([magnitude, phase], dim=2)

    vocoder.head = Click()
    sound = vocoder(torch.zeros(1, MEL.bins, frames))[0]
    assert int(sound.abs().argmax()) == k * MEL.hop + MEL.hop // 2


def off(config: GriffinLimConfig, audio: Tensor) -> float:
    """Returns how far, in nepers, the mel spectrum of a copy is from that of the audio."""
    mel = config.mel(audio)
    return float((config.mel(build(config)(mel)) - mel).abs().mean())


def test_griffin_lim_comes_closer_with_every_iteration_and_faster_with_momentum() -> None:
    profile = MelProfile(sample_rate=8000, n_fft=256, hop=64, bins=40, high=4000.0)
    audio = chord(profile, 8000)
    errors = [off(GriffinLimConfig(mel=profile, iterations=n), audio) for n in (0, 8, 64)]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]
    assert errors[2] < off(GriffinLimConfig(mel=profile, iterations=64, momentum=0.0), audio)


def test_a_circle_of_griffin_lim_has_no_seam() -> None:
    profile = MelProfile(sample_rate=8000, n_fft=256, hop=64, bins=40, high=4000.0)
    size = 60 * profile.hop
    time = torch.arange(3 * size) / size * 2 * torch.pi
    chord = torch.stack([torch.sin(turns * time + turns) for turns in (101, 126, 151)]).mean(dim=0)
    mel = profile(chord[None] / 2)[..., 60:120]  # of the middle one of three turns

    def seam(sound: Tensor) -> float:
        """Returns how rough it is where the end meets the start, over the roughest place elsewhere."""
        rough = sound.repeat(2).diff(n=4).square().unfold(0, 16, 4).sum(dim=1)
        here = slice((size - 24) // 4, (size + 8) // 4)
        elsewhere = torch.cat([rough[16 : here.start - 8], rough[here.stop + 8 : -16]])
        return float(rough[here].max() / elsewhere.max())

    vocoder = build(GriffinLimConfig(mel=profile))
    assert seam(vocoder.circle(mel)[0]) < 1
    assert seam(vocoder(mel)[0]) > 10


def test_griffin_lim_keeps_pitch_level_and_time() -> None:
    profile = MelProfile(sample_rate=8000, n_fft=512, hop=128, bins=64, high=4000.0)
    time = torch.arange(8000) / 8000
    audio = 0.3 * torch.sin(2 * torch.pi * 440 * time)[None] * (time > 0.5)
    copy = build(GriffinLimConfig(mel=profile))(profile(audio))[:, :8000]
    spectrum = torch.fft.rfft(copy[0, 4000:]).abs()
    assert 2 * int(spectrum.argmax()) == pytest.approx(440, abs=8)  # mel bands are 40 Hz apart there
    assert float(copy[0, 5000:7000].std()) == pytest.approx(float(audio[0, 5000:7000].std()), rel=0.1)
    assert float(copy[0, :3500].abs().max()) < 0.01


@pytest.mark.parametrize("block", [20, 64, 223])
def test_griffin_lim_in_blocks_is_griffin_lim_of_all_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder = build(GriffinLimConfig(mel=MEL, iterations=3))
    mel = MEL(chord(MEL, 20_000))
    whole = vocoder(mel)
    monkeypatch.setattr(griffin_lim, "_BLOCK", block)
    blocks = vocoder(mel)
    assert blocks.shape == whole.shape == (2, 20_000)
    assert torch.allclose(blocks, whole, atol=1e-4)


@pytest.mark.parametrize("config", [config for kind in LEARNING for config in KINDS[kind]])
def test_long_sounds_are_made_in_windows_without_a_seam(config: VocoderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder, mel, sizes = build(config), config.mel(chord(config.mel, 20_000)), []
    whole = vocoder(mel).detach()
    synthesise = vocoder.synthesise

    def noted(mel: Tensor) -> Tensor:
        sizes.append(mel.shape[-1])
        return synthesise(mel)

    monkeypatch.setattr(base, "_WINDOW", 0)
    monkeypatch.setattr(vocoder, "synthesise", noted)
    windows = vocoder(mel).detach()
    assert len(sizes) > 2
    assert max(sizes) < mel.shape[-1] / 2
    torch.testing.assert_close(windows, whole, atol=1e-3 * float(whole.abs().max()), rtol=0)


def test_griffin_lim_needs_no_training_and_gives_the_same_sound_alone_and_in_a_crowd() -> None:
    vocoder = build(KINDS["griffin_lim"][0])
    assert bool(vocoder.trained)
    assert not list(vocoder.parameters())
    mel = MEL(chord(MEL))
    vocoder.fit([mel])
    assert torch.equal(vocoder(mel)[1], vocoder(mel[1]))


def test_hifigan_equals_that_of_transformers() -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=12,
                sampling_rate=8000,
                upsample_initial_channel=16,
                upsample_rates=[5, 4, 2],
                upsample_kernel_sizes=[16, 8, 4],
                initializer_range=0.2,
            )
        )
        theirs.mean.copy_(torch.randn(12))
        theirs.scale.copy_(1 + torch.rand(12))
    ours = build(HifiGanConfig(**SMALL))  # type: ignore[arg-type]
    left_out = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert left_out.missing_keys == ["trained"]
    assert not left_out.unexpected_keys
    mel = torch.randn(2, 12, 15, generator=seeded("mel"))
    with torch.no_grad():
        expected = theirs(mel.transpose(1, 2))[:, : 15 * 40]
        torch.testing.assert_close(ours(mel), expected, atol=1e-6, rtol=1e-5)
    assert float(expected.std()) > 0.01


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rates": (5, 4, 3)}, "multiply to the hop 40, not 60"),
        ({"kernels": (16, 8)}, "one kernel for each rate"),
        ({"kernels": (16, 8, 1)}, "shorter than their rates"),
        ({"resblock_kernels": (3, 4, 5)}, "odd resblock_kernels"),
        ({"resblock": 3}, "resblock 1 or 2"),
        ({"channels": 20}, "halves its channels 3 times"),
    ],
)
def test_an_impossible_hifigan_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        HifiGanConfig(**(SMALL | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(("change", "says"), [({"kernel": 4}, "odd kernel"), ({"window": 78}, "two hops of 40")])
def test_an_impossible_istft_is_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(KINDS["istft"][0], **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"iterations": -1}, {"momentum": 1.5}])
def test_an_impossible_griffin_lim_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="0 or more iterations and a momentum from 0 to 1"):
        GriffinLimConfig(**change)  # type: ignore[arg-type]
