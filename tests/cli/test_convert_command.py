"""hiss convert: models come in and go out, whole or not at all."""

from pathlib import Path

import pytest
from audioldms import theirs
from command_line import hiss

from hiss.pipeline import folder_of, load

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def test_an_audioldm_comes_in_and_goes_out(tmp_path: Path) -> None:
    theirs(tmp_path / "theirs")
    done = hiss("convert", tmp_path / "theirs", "-o", tmp_path / "ours")
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "ours") in done.output
    assert load(tmp_path / "ours").model.config.sample_rate == 16000
    done = hiss("convert", tmp_path / "ours", "--to", "diffusers", "-o", tmp_path / "back")
    assert done.exit_code == 0, done.output
    assert "written: vae, unet, scheduler, text_encoder, tokenizer, vocoder" in done.output
    assert (tmp_path / "back" / "model_index.json").is_file()


def test_a_model_becomes_smaller(tmp_path: Path) -> None:
    done = hiss("convert", "tones", "--bits", "8", "-o", tmp_path / "small")
    assert done.exit_code == 0, done.output
    before, after = ((path / "model.safetensors").stat().st_size for path in (folder_of("tones"), tmp_path / "small"))
    assert after < 0.6 * before
    assert load(tmp_path / "small").card == load("tones").card


def test_a_denoiser_becomes_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="ONNX needs the extra 'onnx'")
    done = hiss("convert", "denoise-16k", "--to", "onnx", "-o", tmp_path / "new" / "denoise.onnx")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "new" / "denoise.onnx").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("digits",), 2, "digits is a model of ours already; ask for a smaller one by --bits"),
        (("digits", "--bits", "9"), 2, "bits are those of a model of ours: 32, 16 or 8"),
        (("digits", "--bits", "8", "--to", "onnx"), 2, "bits are those of a model of ours"),
        ((".",), 1, ". holds no AudioLDM: it lacks vae/config.json"),
        (("digits", "--to", "diffusers"), 2, "only latent models of mono sound have parts that diffusers knows"),
        (("digits", "--to", "onnx"), 2, "only a causal denoiser can be exported"),
        (("digitz", "--to", "onnx"), 2, "unknown model 'digitz'"),
        (("digits", "--to", "tensorflow"), 2, "'tensorflow' is not one of 'hiss', 'diffusers', 'onnx'"),
    ],
)
def test_what_cannot_be_converted_is_said_and_nothing_written(
    tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    done = hiss("convert", *words, "-o", tmp_path / "out")
    assert done.exit_code == status
    assert said in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = hiss("convert", "anything", "-o", tmp_path)
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
