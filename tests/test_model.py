"""The model: its loss falls, its samples follow the laws of the mathematics below it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hiss.conditioners.label import LabelConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.diffusion.parameterizations import PARAMETERIZATIONS
from hiss.diffusion.schedules import Karras, LogNormal
from hiss.diffusion.weightings import WEIGHTINGS
from hiss.errors import UsageError
from hiss.model import AudioDiffusionModel, Denoiser, Edit
from hiss.networks import Network, NetworkConfig
from hiss.networks.layers import blind
from hiss.networks.unet import UNetConfig
from hiss.noise import generators, seeded
from hiss.representations.waveform import WaveformConfig
from hiss.signal.losses import Opinion, Perceptual
from hiss.types import Batch, Condition, Prompt

CONFIG = ModelConfig(
    sample_rate=1000,
    seconds=0.256,
    representation=WaveformConfig(pre_emphasis=0.5),
    network=UNetConfig(channels=(16, 32), patch=8, factors=(2,), attention=(False, True), embedding=32),
    conditioners=(LabelConfig(field="pitch", classes=("low", "high"), features=8),),
    training=LogNormal(mean=-0.5, std=1.2),
    sampling=SamplingConfig(steps=4, guidance=2.0),
    uncertainty=True,
)


def tones(count: int = 8) -> Batch:
    """Returns low and high tones with their labels."""
    time = torch.arange(256) / 1000
    hertz = torch.tensor([20.0, 100.0]).repeat(count // 2)
    phase = 6.28 * torch.rand(count, generator=seeded("phase"))
    audio = torch.sin(6.2832 * hertz[:, None] * time + phase[:, None])[:, None]
    prompts = tuple(Prompt(labels={"pitch": ("low", "high")[i % 2]}) for i in range(count))
    return Batch(audio, 1000, prompts, torch.full((count,), 256))


@pytest.fixture(scope="module")
def model() -> AudioDiffusionModel:
    """Returns a model that was trained for a moment."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AudioDiffusionModel(CONFIG)
    batch = tones()
    made.representation.fit([batch.audio])
    optimizer = torch.optim.AdamW(made.parameters(), lr=5e-3)
    for step in range(120):
        optimizer.zero_grad()
        made.compute_loss(batch, generator=seeded(step)).backward()
        optimizer.step()
    return made.eval()


def error(model: AudioDiffusionModel) -> float:
    """Returns the mean squared error of the clean estimate at a high noise level."""
    batch = tones()
    clean = model.representation.encode(batch.audio)
    sigma = torch.tensor(2.0)
    x = clean + sigma * torch.randn(clean.shape, generator=seeded("x"))
    with torch.no_grad():
        return float((model.denoiser(x, sigma, model.condition(batch.prompts, 256)[0]) - clean).square().mean())


def test_training_lowers_the_error(model: AudioDiffusionModel) -> None:
    fresh = AudioDiffusionModel(CONFIG)
    fresh.representation.load_state_dict(model.representation.state_dict())
    assert error(model) < 0.5 * error(fresh)


def test_a_config_survives_the_round_trip() -> None:
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"parameterization": "velocity"}, "unknown parameterization 'velocity'"),
        ({"weighting": "snr"}, "unknown weighting 'snr'"),
        ({"seconds": 0.0}, "positive"),
        ({"weighting": "none"}, "leaves only the auxiliary losses"),
        ({"own_estimates": 1.1}, "own_estimates is a share"),
        ({"losses": (Perceptual(),)}, "the loss perceptual hears 16000 Hz, the model makes 1000 Hz"),
        ({"losses": (Opinion(sample_rate=48_000),)}, "the loss opinion hears 48000 Hz, the model makes 1000 Hz"),
    ],
)
def test_an_impossible_config_is_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_an_unknown_sampler_in_a_config_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown sampler 'magic'"):
        SamplingConfig(sampler="magic")


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_windows_that_never_move_on_are_refused(overlap: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        SamplingConfig(overlap=overlap)


@pytest.mark.parametrize("weighting", [name for name in WEIGHTINGS if name != "none"])
@pytest.mark.parametrize("parameterization", list(PARAMETERIZATIONS))
def test_the_gradient_of_every_loss_reaches_every_weight(weighting: str, parameterization: str) -> None:
    config = replace(CONFIG, weighting=weighting, parameterization=parameterization, prompt_dropout=0.5)
    made = AudioDiffusionModel(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=seeded(parameter.numel()))
    made.compute_loss(tones(), generator=seeded(0)).backward()
    assert [n for n, p in made.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_own_estimates_leave_gradients_alone_in_bf16() -> None:
    made = AudioDiffusionModel(replace(CONFIG, own_estimates=0.5, prompt_dropout=0.5))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=seeded(parameter.numel()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.compute_loss(tones(), generator=seeded(0))
    loss.backward()
    assert [n for n, p in made.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


class Echo(Network):
    """Takes what has little noise for clean, and guesses where there is much."""

    GUESS = 0.25

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        return torch.where(noise[:, None, None] < 0, x, self.GUESS) + self.weight


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_batch_starts_from_the_estimate_of_the_first_step(share: float) -> None:
    faint = LogNormal(mean=-9.0, std=0.1, sigma_min=1e-5, sigma_max=1e-3)
    model = AudioDiffusionModel(
        replace(CONFIG, parameterization="clean", training=faint, weighting="clean", uncertainty=False)
    )
    model.denoiser.network = Echo()
    model.config = replace(model.config, own_estimates=share)
    clean = model.representation.encode(tones().audio)[: round(8 * share)]
    loss = model.compute_loss(tones(), generator=seeded(0))
    expected = (Echo.GUESS - clean).square().sum() / (8 * 256)
    torch.testing.assert_close(loss.detach(), expected, atol=1e-4, rtol=1e-3)


class Oracle(Network):
    """F of the exact denoiser of Gaussian data of unit variance: D = x / (1 + sigma^2), so F is 0 with `edm`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, noise: Tensor, condition: Condition) -> Tensor:
        return torch.zeros_like(x) + self.weight


def test_the_exact_denoiser_samples_unit_variance_noise() -> None:
    made = AudioDiffusionModel(replace(CONFIG, representation=WaveformConfig(), conditioners=()))
    made.denoiser = Denoiser(Oracle(), "edm")
    audio = made.sample([Prompt()] * 64, 256, steps=40, generator=seeded(0))
    assert float(audio.std()) == pytest.approx(1.0, abs=0.03)
    cold = made.sample([Prompt()] * 64, 256, steps=40, temperature=0.5, generator=seeded(0))
    torch.testing.assert_close(cold, audio / 2)


def test_an_item_sounds_the_same_to_the_bit_alone_and_in_any_crowd(model: AudioDiffusionModel) -> None:
    prompts = [Prompt(labels={"pitch": "low"})] * 5
    together = model.sample(prompts, 256, sampler="dpmpp_2m_sde", generator=generators(3, range(5)))
    for item in range(5):
        alone = model.sample(prompts[:1], 256, sampler="dpmpp_2m_sde", generator=generators(3, [item]))
        assert torch.equal(alone[0], together[item])


@pytest.mark.parametrize(("overlap", "windows"), [(0.0, 4), (0.5, 7), (0.75, 13)])
def test_longer_sounds_are_made_in_windows_that_share_what_was_asked_for(overlap: float, windows: int) -> None:
    made = AudioDiffusionModel(
        replace(CONFIG, representation=WaveformConfig(), sampling=SamplingConfig(overlap=overlap), conditioners=())
    )
    seen: list[int] = []
    made.denoiser.register_forward_hook(lambda denoiser, inputs, output: seen.append(output.shape[-1]))
    made.sample([Prompt()], 4 * CONFIG.samples, steps=1, sampler="ddim", generator=seeded(0))
    assert seen == [CONFIG.samples] * windows


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_windows_are_evaluated_at_once_than_sounds_are_made(
    count: int, model: AudioDiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "_together", len)  # as on a GPU
    seen: list[int] = []
    hook = model.denoiser.register_forward_hook(lambda denoiser, inputs, output: seen.append(len(output)))
    prompts = [Prompt(labels={"pitch": "low"})] * count
    model.sample(prompts, 4 * CONFIG.samples, steps=1, sampler="ddim", generator=seeded(0))
    hook.remove()
    assert seen == [2 * count] * 7  # guided: with the prompt and without


def test_the_label_decides_the_pitch(model: AudioDiffusionModel) -> None:
    for label, hertz in (("low", 20), ("high", 100)):
        audio = model.sample([Prompt(labels={"pitch": label})] * 4, 256, steps=12, generator=seeded(1))
        peak = torch.fft.rfft(audio).abs().mean(dim=(0, 1)).argmax() * 1000 / 256
        assert float(peak) == pytest.approx(hertz, abs=8)


def test_guidance_of_one_ignores_the_negative_prompt(model: AudioDiffusionModel) -> None:
    prompt, other = [Prompt(labels={"pitch": "low"})], [Prompt(labels={"pitch": "high"})]
    plain = model.sample(prompt, 256, guidance=1.0, generator=seeded(1))
    assert torch.equal(plain, model.sample(prompt, 256, guidance=1.0, negative=other, generator=seeded(1)))
    pushed = model.sample(prompt, 256, guidance=3.0, negative=other, generator=seeded(1))
    assert not torch.allclose(plain, pushed)


def test_guidance_against_attention_leads_away_from_a_blind_estimate_without_any_prompt() -> None:
    sampling = SamplingConfig(steps=1, against="attention", interval=(1.0, 1e9))
    made = AudioDiffusionModel(replace(CONFIG, conditioners=(), sampling=sampling))
    for parameter in made.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded(parameter.numel()))

    def sample(guidance: float, samples: int = 256) -> Tensor:
        return made.sample([Prompt()], samples, guidance=guidance, generator=seeded(1))

    plain = sample(1.0)
    with blind():
        unseeing = sample(1.0)
    assert not torch.allclose(plain, unseeing)
    torch.testing.assert_close(sample(3.0), plain + 2 * (plain - unseeing), rtol=1e-3, atol=1e-4)
    assert bool(sample(3.0, 600).isfinite().all())  # in windows
    with pytest.raises(UsageError, match="leave the negative prompt out"):
        made.sample([Prompt()], 256, negative=[Prompt()])


def test_guidance_against_attention_needs_a_network_that_attends() -> None:
    network = UNetConfig(channels=(8, 8), patch=8, factors=(2,), attention=(False, False), embedding=16)
    with pytest.raises(UsageError, match="needs a network with self-attention"):
        AudioDiffusionModel(replace(CONFIG, network=network, sampling=SamplingConfig(against="attention")))


def test_what_an_edit_keeps_comes_back(model: AudioDiffusionModel) -> None:
    audio, keep = tones(2).audio[:1], torch.ones(256)
    keep[100:160] = 0
    edited = model.sample([Prompt()], 256, edit=Edit(audio, keep=keep), generator=seeded(0))
    assert torch.equal(edited[..., :100], audio[..., :100])
    assert torch.equal(edited[..., 160:], audio[..., 160:])
    assert float((edited - audio)[..., 100:160].abs().max()) > 0.01


def test_a_weaker_variation_stays_nearer(model: AudioDiffusionModel) -> None:
    audio = tones(2).audio[:1]
    distances = [
        float((model.sample([Prompt()], 256, edit=Edit(audio, strength), generator=seeded(0)) - audio).square().mean())
        for strength in (0.2, 0.5, 0.9)
    ]
    assert distances == sorted(distances)


@pytest.mark.parametrize("samples", [1, 100, 257, 1000])
@pytest.mark.parametrize("loop", [False, True])
def test_any_length_can_be_sampled(model: AudioDiffusionModel, samples: int, loop: bool) -> None:
    audio = model.sample([Prompt(labels={"pitch": "low"})] * 2, samples, steps=2, loop=loop, generator=seeded(0))
    assert audio.shape == (2, 1, samples)
    assert bool(torch.isfinite(audio).all())


def test_a_schedule_of_the_literature_can_be_chosen() -> None:
    for name in ("linear", "cosine"):
        data = CONFIG.to_dict() | {"training": {"name": name}, "sampling": {"schedule": {"name": name}, "steps": 3}}
        made = AudioDiffusionModel(ModelConfig.from_dict(data))
        assert bool(torch.isfinite(made.compute_loss(tones(), generator=seeded(0))))
        assert made.sample([Prompt()], 64, generator=seeded(0)).shape == (1, 1, 64)


def test_networks_are_found_by_name() -> None:
    assert isinstance(NetworkConfig.from_dict({"name": "unet"}), UNetConfig)
    assert Karras() == SamplingConfig().schedule
