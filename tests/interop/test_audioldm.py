"""An AudioLDM that diffusers saved gives the same latents and the same sound here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from audioldms import FRAMES, GUIDANCE, NEGATIVE, PROMPT, SAMPLES, STEPS, made, theirs
from torch import Tensor

from hiss.diffusion.sampling import SAMPLERS, ddim
from hiss.errors import HissError, UsageError
from hiss.interop.audioldm import PARTS, read_audioldm, read_scheduler
from hiss.noise import seeded
from hiss.pipeline import load
from hiss.types import Prompt


def unit(sigma: Tensor) -> Tensor:
    """Returns what brings x = clean + sigma * noise to unit variance."""
    return torch.rsqrt(1 + sigma.square())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("audioldm")
    theirs(place)
    return place


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_schedule_of_diffusers_leads_to_the_same_latents_and_sound(tmp_path: Path) -> None:
    # As in the released models: steps counted from the start, and a last level that is not quite zero.
    pipeline = theirs(tmp_path, steps_offset=1, set_alpha_to_one=False)
    model = read_audioldm(tmp_path).model
    pipeline.scheduler.set_timesteps(STEPS)
    alphabar = pipeline.scheduler.alphas_cumprod.double()
    levels = (1 / torch.cat([alphabar[pipeline.scheduler.timesteps], alphabar[:1]]) - 1).sqrt().float()
    noise = torch.randn(1, 4, 4, FRAMES, generator=seeded("latents"))
    expected, heard = made(pipeline, noise)
    with torch.no_grad():
        wanted, _ = model.condition([Prompt(text=PROMPT)], SAMPLES)
        unwanted, _ = model.condition([Prompt(text=NEGATIVE)], SAMPLES)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            with_prompt, without = model.denoiser(x, sigma, wanted), model.denoiser(x, sigma, unwanted)
            guided: Tensor = without + GUIDANCE * (with_prompt - without)
            return guided

        x = ddim(denoise, noise / unit(levels[0]), levels) * unit(levels[-1])
        torch.testing.assert_close(x, expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(model.representation.decode(x)[0], heard, atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("times", [1, 2])
def test_a_pipeline_makes_the_same_sound_from_the_same_noise(times: int, tmp_path: Path) -> None:
    # With as many steps as there are betas both walk every level. Twice the usual length is one window still.
    pipeline = theirs(tmp_path, num_train_timesteps=STEPS, beta_start=0.01, beta_end=0.8)
    ours = read_audioldm(tmp_path)
    highest = ours.model.config.sampling.schedule.grid(STEPS)[0]
    noise = torch.randn(4, 4, times * FRAMES, generator=seeded(3, 0))[None]
    _, heard = made(pipeline, noise * highest * unit(highest))
    sound = ours.generate(
        PROMPT,
        negative=NEGATIVE,
        length=times * SAMPLES / 16000,
        steps=STEPS,
        sampler="ddim",
        guidance=GUIDANCE,
        seed=3,
    )
    assert float(heard.std()) > 0.01
    torch.testing.assert_close(sound.samples, heard, atol=1e-3, rtol=0)


def test_it_can_be_saved_as_ours_and_loaded_again(folder: Path, tmp_path: Path) -> None:
    first = read_audioldm(folder)
    first.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.reads
    assert again.model.config == first.model.config
    assert torch.equal(*(one.generate(PROMPT, steps=2, seed=0).samples for one in (first, again)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_with_it(sampler: str, folder: Path) -> None:
    sound = read_audioldm(folder).generate(PROMPT, steps=3, sampler=sampler, seed=0)
    assert sound.samples.shape == (1, SAMPLES)
    assert bool(sound.samples.isfinite().all())


def test_prompts_are_told_apart_and_long_ones_are_warned_of(folder: Path) -> None:
    ours = read_audioldm(folder)
    vector = ours.model.condition([Prompt(text=PROMPT), Prompt(text=NEGATIVE), Prompt()], SAMPLES)[0].vector
    assert vector is not None
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(3))
    assert float(torch.cdist(vector, vector).sort(dim=1).values[:, 1].min()) > 0.01
    with pytest.warns(UserWarning, match="too long"):
        ours.prompt("a flute " * 20)


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(part: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / part)
    with pytest.raises(HissError, match=f"holds no AudioLDM: it lacks {part}/"):
        read_audioldm(tmp_path / "copy")


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "vocoder"])
def test_missing_weights_are_one_sentence(part: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    for weights in (tmp_path / "copy" / part).glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(HissError, match=f"{part} holds no ") as raised:
        read_audioldm(tmp_path / "copy")
    assert "\n" not in str(raised.value)


def test_a_part_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "vae")
    shutil.copytree(folder / "unet", tmp_path / "copy" / "vae")
    with pytest.raises(HissError, match="vae"):
        read_audioldm(tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, "neither linear nor scaled_linear"),
        ({"prediction_type": "sample"}, "prediction_type 'sample'"),
    ],
)
def test_a_schedule_of_another_kind_is_refused(change: dict[str, str], says: str, tmp_path: Path) -> None:
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps(change))
    with pytest.raises(UsageError, match=says):
        read_scheduler(path)
    path.write_text(json.dumps({"beta_schedule": "linear", "prediction_type": "v_prediction"}))
    assert read_scheduler(path)[1] == "v"
    path.write_text("{")
    with pytest.raises(HissError, match="damaged"):
        read_scheduler(path)
