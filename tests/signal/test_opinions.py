"""Opinions to train against: the published network in torch, and what counts as lacking."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hiss import Audio
from hiss.errors import HissError, UsageError
from hiss.evaluation.speech import Dnsmos
from hiss.noise import seeded
from hiss.signal.losses import Opinion
from hiss.signal.mixing import mix
from hiss.signal.opinions import OPINIONS, OpinionNetwork, opinion_error, opinion_network
from hiss.signal.resampling import resample_period

RATE = 16000


@pytest.fixture(scope="module")
def speech() -> Tensor:
    recording = Audio.load(str(files("hiss") / "recordings/speech.flac"))
    return recording.samples[None, :, : 2 * RATE]


@pytest.fixture(scope="module")
def network() -> OpinionNetwork:
    try:
        return opinion_network()
    except HissError as error:
        pytest.skip(str(error))


def noisy(speech: Tensor, snr: float) -> Tensor:
    return mix(speech[0], torch.randn(speech[0].shape, generator=seeded("opinions")), snr, frame=320)[None]


def test_the_network_says_what_it_says_elsewhere(network: OpinionNetwork, speech: Tensor) -> None:
    pytest.importorskip("onnxruntime")
    recording = torch.cat([noisy(speech, 10.0)[0]] * 5, dim=1)[:, :144_160]
    expected = Dnsmos()(Audio(recording, RATE))
    found = dict(zip(OPINIONS, network(recording)[0].tolist(), strict=True))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-3)


def test_more_noise_is_thought_worse_at_any_level_and_rate(network: OpinionNetwork, speech: Tensor) -> None:
    def error(estimate: Tensor, target: Tensor, rate: int = RATE) -> float:
        return float(opinion_error(estimate, target, network, sample_rate=rate))

    errors = [error(noisy(speech, snr), speech) for snr in (20, 10, 0)]
    assert 0 < errors[0] < errors[1] < errors[2] < 4
    assert error(speech, speech) == 0
    assert error(10 * noisy(speech, 10), 10 * speech) == pytest.approx(errors[1], abs=1e-3)
    assert error(speech, noisy(speech, 10)) == 0  # better than the target: nothing is lacking
    both = [resample_period(sound, 3 * sound.shape[-1]) for sound in (noisy(speech, 10), speech)]
    assert error(both[0], both[1], 48000) == pytest.approx(errors[1], abs=1e-3)


def test_what_should_be_silent_is_not_judged_and_short_sounds_are(network: OpinionNetwork, speech: Tensor) -> None:
    silence = torch.zeros_like(speech)
    for estimate, target in ((speech, silence), (silence, speech), (silence, silence)):
        leaf = estimate.clone().requires_grad_()
        error = opinion_error(leaf, target, network, sample_rate=RATE)
        (slope,) = torch.autograd.grad(error.sum(), leaf)
        assert slope.isfinite().all()
        assert bool(error == 0) == (target is silence)
    assert opinion_error(noisy(speech, 0)[..., :300], speech[..., :300], network, sample_rate=RATE).isfinite().all()


def test_its_slope_reaches_what_made_the_estimate(network: OpinionNetwork, speech: Tensor) -> None:
    layer = torch.nn.Conv1d(1, 1, 9, padding=4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    errors = []
    for _ in range(3):
        optimizer.zero_grad()
        error = Opinion().measure(layer(noisy(speech, 5)), speech).mean()
        error.backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[2] < errors[0]
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_share_of_the_batch_is_judged_for_the_whole(network: OpinionNetwork, speech: Tensor) -> None:
    estimates, targets = noisy(speech, 5).expand(4, -1, -1), speech.expand(4, -1, -1)
    whole, half = (Opinion(share=share).measure(estimates, targets) for share in (1.0, 0.5))
    assert half[2:].tolist() == [0, 0]
    torch.testing.assert_close(half.mean(), whole.mean())


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.5}, {"sample_rate": 0}, {"weight": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Opinion(**settings)  # type: ignore[arg-type]


def test_a_file_that_is_not_the_network_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    with pytest.raises(HissError, match="there is no DNSMOS network"):
        opinion_network(tmp_path / "none.onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    other = tmp_path / "other.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", ports[:1], ports[1:])), other)
    text = tmp_path / "text.onnx"
    text.write_text("no network")
    for file in (other, text):
        with pytest.raises(HissError, match=r"is not the network of DNSMOS P\.835"):
            opinion_network(file)
