"""What a user calls: prompts, arguments, edits, folders, and what is refused."""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
import torch

import hiss
from hiss.audio import Audio
from hiss.conditioners.label import LabelConfig
from hiss.config import ModelConfig, SamplingConfig
from hiss.errors import HissError, UsageError
from hiss.model import AudioDiffusionModel
from hiss.networks.unet import UNetConfig
from hiss.noise import seeded
from hiss.pipeline import Pipeline, bundled
from hiss.representations.waveform import WaveformConfig
from hiss.types import Prompt

CONFIG = ModelConfig(
    sample_rate=1000,
    seconds=0.2,
    representation=WaveformConfig(),
    network=UNetConfig(channels=(8, 16), patch=8, factors=(2,), attention=(False, True), embedding=16),
    conditioners=(
        LabelConfig(field="digit", classes=("0", "7"), features=4),
        LabelConfig(field="speaker", classes=("ada", "bob"), features=4, draw=True),
    ),
    sampling=SamplingConfig(steps=2, guidance=1.5),
)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    model = AudioDiffusionModel(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=seeded(parameter.numel()))
    return Pipeline(model, card="# A small model\n")


@pytest.fixture
def folder(pipeline: Pipeline, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def recording(seconds: float = 0.2, rate: int = 1000, channels: int = 1) -> Audio:
    return Audio(0.1 * torch.randn(channels, round(seconds * rate), generator=seeded("recording")), rate)


def same(one: Audio, other: Audio) -> bool:
    return torch.equal(one.samples, other.samples)


def test_one_is_audio_and_a_count_is_a_list(pipeline: Pipeline) -> None:
    assert isinstance(pipeline.generate(7, seed=0), Audio)
    assert [type(one) for one in pipeline.generate(7, seed=0, count=2)] == [Audio, Audio]


def test_the_shape_of_the_usual_guide_works(pipeline: Pipeline, tmp_path: Path) -> None:
    audio = pipeline.generate("7", sample_rate=44100, length=0.3, temperature=0.7)
    audio = hiss.normalize_audio(audio)
    soundfile.write(tmp_path / "generated_audio.wav", audio, 44100)
    samples, rate = soundfile.read(tmp_path / "generated_audio.wav")
    assert (len(samples), rate) == (round(0.3 * 44100), 44100)


@pytest.mark.parametrize("asked", ["7 bob", "bob 7", {"digit": 7, "speaker": "bob"}])
def test_a_prompt_can_be_written_in_many_ways(pipeline: Pipeline, asked: object) -> None:
    assert pipeline.prompt(asked) == Prompt(labels={"digit": "7", "speaker": "bob"})  # type: ignore[arg-type]


def test_a_class_may_have_several_words() -> None:
    ensembles = LabelConfig(field="ensemble", classes=("piano", "piano trio", "string quartet"), features=4)
    mood = LabelConfig(field="mood", classes=("slow",), features=4)
    trio = Pipeline(AudioDiffusionModel(replace(CONFIG, conditioners=(ensembles, mood))))
    assert trio.prompt("slow piano trio").labels == {"ensemble": "piano trio", "mood": "slow"}
    assert trio.prompt("piano slow").labels == {"ensemble": "piano", "mood": "slow"}
    with pytest.raises(UsageError, match=r"unknown label 'quartet'.*valid are: piano, piano trio, slow, string"):
        trio.prompt("slow quartet")


def test_a_new_sound_beyond_full_scale_is_turned_down_and_a_kept_one_is_not() -> None:
    loud = Pipeline(AudioDiffusionModel(CONFIG))
    loud.model.representation.get_buffer("scale").fill_(50.0)
    assert loud.generate(7, seed=1).peak == pytest.approx(10 ** (-1 / 20))
    given = recording()
    kept = loud.generate(7, continue_from=given, length=0.4, seed=1)
    assert kept.peak > 1
    assert torch.allclose(kept.samples[:, :150], given.samples[:, :150], atol=1e-4)


def test_several_prompts_make_count_of_each(pipeline: Pipeline) -> None:
    made = pipeline.generate(["0 ada", "7 bob"], count=2, seed=4)
    assert len(made) == 4
    assert same(made[3], pipeline.generate("7 bob", count=4, seed=4)[3])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_batch_size_changes_nothing(pipeline: Pipeline, batch_size: int) -> None:
    made = pipeline.generate(7, count=5, seed=11, batch_size=batch_size)
    assert all(map(same, made, pipeline.generate(7, count=5, seed=11)))


def test_a_seed_for_each_prompt_gives_each_what_it_would_get_alone(pipeline: Pipeline) -> None:
    made = pipeline.generate([7, "0 ada"], count=2, seed=[3, 9], batch_size=3)
    alone = [*pipeline.generate(7, count=2, seed=3), *pipeline.generate("0 ada", count=2, seed=9)]
    assert all(map(same, made, alone))
    with pytest.raises(UsageError, match="one for each of the 2 prompts, not 1"):
        pipeline.generate([7, 0], count=1, seed=[3])


def test_no_prompt_in_a_list_and_two_recordings_to_vary_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match="the list of prompts is empty"):
        pipeline.generate([], count=1)
    sound = pipeline.generate(seed=1)
    with pytest.raises(UsageError, match="only one recording can be varied"):
        pipeline.generate(sound, init=sound)


def test_a_seed_fixes_the_sound_and_no_seed_does_not(pipeline: Pipeline) -> None:
    assert same(pipeline.generate(7, seed=1), pipeline.generate(7, seed=1))
    assert not same(pipeline.generate(7, seed=1), pipeline.generate(7, seed=2))
    assert not same(pipeline.generate(7), pipeline.generate(7))


def test_generating_leaves_the_global_random_state_alone(pipeline: Pipeline) -> None:
    before = torch.get_rng_state()
    pipeline.generate(7, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_length_and_sample_rate_are_those_asked_for(pipeline: Pipeline) -> None:
    assert pipeline.generate(seed=0).samples.shape == (1, 200)
    assert pipeline.generate(seed=0, length=0.731).samples.shape == (1, 731)
    assert pipeline.generate(seed=0, sample_rate=8000).samples.shape == (1, 1600)


def test_a_recording_as_prompt_means_a_variation_of_it(pipeline: Pipeline) -> None:
    source = recording()
    assert same(pipeline.generate(source, seed=0), pipeline.generate(init=source, seed=0))


def test_a_recording_of_another_rate_and_more_channels_is_taken(pipeline: Pipeline) -> None:
    assert pipeline.generate(init=recording(0.5, 8000, 2), seed=0).samples.shape == (1, 500)


def test_continuation_keeps_the_beginning(pipeline: Pipeline) -> None:
    source = recording()
    longer = pipeline.generate(continue_from=source, length=0.4, seed=0)
    assert longer.samples.shape == (1, 400)
    assert torch.equal(longer.samples[:, :195], source.samples[:, :195])
    assert bool(longer.samples[:, 205:].any())


def test_inpainting_keeps_what_lies_outside_the_span(pipeline: Pipeline) -> None:
    source = recording()
    filled = pipeline.generate(inpaint=source, span=(0.05, 0.1), seed=0)
    difference = (filled.samples - source.samples)[0].abs()
    assert not difference[:44].any()
    assert not difference[106:].any()
    assert bool(difference[55:95].all())


def test_several_spans_are_each_made_anew(pipeline: Pipeline) -> None:
    source, spans = recording(), [(0.02, 0.05), (0.1, 0.12)]
    both = pipeline.generate(inpaint=source, span=spans, seed=0).samples
    changed = ~torch.isclose(both, source.samples, atol=1e-6)[0]
    fade = round(0.005 * 1000)
    inside = torch.zeros(len(changed), dtype=torch.bool)
    for start, end in spans:
        inside[round(start * 1000) - fade : round(end * 1000) + fade] = True
        assert bool(changed[round(start * 1000) : round(end * 1000)].all())
    assert not bool((changed & ~inside).any())
    one = pipeline.generate(inpaint=source, span=spans[:1], seed=0).samples
    assert torch.equal(one, pipeline.generate(inpaint=source, span=spans[0], seed=0).samples)


@pytest.mark.parametrize("span", [(0.1,), [(0.1, 0.2, 0.3)], ["a:b"], 0.1])
def test_what_is_no_span_is_refused(pipeline: Pipeline, span: Any) -> None:
    with pytest.raises(UsageError, match="span is a pair of seconds"):
        pipeline.generate(inpaint=recording(), span=span)


def test_each_sound_is_told_of_in_order_as_soon_as_its_batch_is_done(pipeline: Pipeline) -> None:
    told: list[Audio] = []
    made_by: list[int] = []

    def each(sound: Audio) -> None:
        told.append(sound)
        made_by.append(len(steps))

    steps: list[int] = []
    sounds = pipeline.generate(
        7, count=3, batch_size=2, seed=0, steps=2, watch=lambda done, of, _: steps.append(done), each=each
    )
    assert all(one is other for one, other in zip(told, sounds, strict=True))
    assert made_by == [2, 2, 4]


def test_watch_counts_the_steps_of_all_items(pipeline: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    pipeline.generate(7, count=3, batch_size=2, seed=0, watch=lambda done, of, _: seen.append((done, of)))
    assert seen == [(2, 6), (4, 6), (5, 6), (6, 6)]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"prompt": "9"}, "unknown label '9'"),
        ({"prompt": {"voice": "ada"}}, "unknown label 'voice'"),
        ({"prompt": {"digit": 3}}, "unknown digit '3'"),
        ({"prompt": "7 0"}, "'7' and '0' both name the digit"),
        ({"prompt": ["0", "7"]}, "need count"),
        ({"negative": "0", "guidance": 1}, "a negative prompt does nothing at guidance 1"),
        ({"length": 0.0}, "length"),
        ({"length": -1.0}, "length"),
        ({"length": 1e9}, "length"),
        ({"length": math.nan}, "length"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"guidance": math.nan}, "guidance"),
        ({"count": 0}, "count"),
        ({"batch_size": 0}, "batch_size"),
        ({"strength": -1.0}, "strength"),
        ({"sampler": "magic"}, "unknown sampler 'magic'"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"init": recording(), "strength": 0.0}, "strength"),
        ({"inpaint": recording(), "span": (0.05, 0.1), "strength": 0.3}, "strength belongs to init"),
        ({"continue_from": recording(), "strength": 1.0}, "strength belongs to init"),
        ({"strength": 0.3}, "strength belongs to init"),
        ({"inpaint": recording()}, "span"),
        ({"inpaint": recording(), "span": (0.3, 0.1)}, "span"),
        ({"init": recording(), "continue_from": recording()}, "one recording"),
        ({"continue_from": recording(), "length": 0.1}, "length counts the whole"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    pipeline: Pipeline, arguments: dict[str, object], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        pipeline.generate(**arguments)  # type: ignore[call-overload]


def test_a_folder_round_trip_changes_nothing(pipeline: Pipeline, folder: Path) -> None:
    loaded = hiss.load(folder)
    assert loaded.card == "# A small model\n"
    assert same(loaded.generate(7, seed=5), pipeline.generate(7, seed=5))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_a_model_without_a_card_does_not_keep_that_of_the_one_before(
    pipeline: Pipeline, folder: Path, tmp_path: Path
) -> None:
    Pipeline(pipeline.model).save_pretrained(folder)
    assert hiss.load(folder).card == ""
    (tmp_path / "README.md").write_text("of a project, not of a model")
    Pipeline(pipeline.model).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").exists()


def test_a_card_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HissError, match=r"README\.md: it is no text in UTF-8"):
        hiss.load(folder)


def test_half_precision_halves_the_file_and_loads_as_float32(pipeline: Pipeline, folder: Path, tmp_path: Path) -> None:
    hiss.load(folder).save_pretrained(tmp_path / "half", bits=16)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, tmp_path / "half")]
    assert sizes[1] < 0.7 * sizes[0]
    loaded = hiss.load(tmp_path / "half")
    assert loaded.model.denoiser.network.leave.weight.dtype == torch.float32  # type: ignore[union-attr]
    error = loaded.generate(7, seed=5).samples - pipeline.generate(7, seed=5).samples
    assert float(error.abs().max()) < 0.05


def test_a_model_without_conditions_refuses_a_prompt() -> None:
    config = ModelConfig.from_dict(CONFIG.to_dict() | {"conditioners": []})
    with pytest.raises(UsageError, match="takes no prompt"):
        Pipeline(AudioDiffusionModel(config)).generate("7")


def test_a_model_that_knows_times_takes_them_beside_its_labels() -> None:
    timed = ModelConfig.from_dict(CONFIG.to_dict() | {"conditioners": [{"name": "timing", "features": 8}]})
    alone = Pipeline(AudioDiffusionModel(timed))
    assert alone.prompt({"start": 1, "total": "9.5"}) == Prompt(start=1.0, total=9.5)
    assert alone.prompt({"total": 3}) == Prompt(total=3.0)
    for wrong in ("soon", -1, math.inf):
        with pytest.raises(UsageError, match="start is a time in seconds"):
            alone.prompt({"start": wrong})
    both = Pipeline(AudioDiffusionModel(replace(CONFIG, conditioners=(*CONFIG.conditioners, *timed.conditioners))))
    assert both.prompt({"digit": 7, "start": 1}) == Prompt(labels={"digit": "7"}, start=1.0)
    with pytest.raises(UsageError, match=r"unknown label 'begin'.*start, total"):
        alone.prompt({"begin": 1})


def test_an_unknown_model_is_refused_with_the_bundled_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model"):
        hiss.load(tmp_path / "nowhere")
    assert bundled() == sorted(bundled())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_network_may_compute_in_sixteen_bits(folder: Path, precision: Literal["bf16", "fp16"]) -> None:
    exact, narrow = hiss.load(folder), hiss.load(folder, precision=precision)
    computed: list[torch.dtype] = []
    for module in narrow.model.denoiser.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda _, given, made: computed.append(made.dtype))
    wanted, made = (pipeline.generate(7, seed=0, steps=4).samples for pipeline in (exact, narrow))
    assert set(computed) == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert made.dtype == torch.float32
    assert not torch.equal(made, wanted)
    assert float((made - wanted).norm() / wanted.norm()) < 0.1


def test_how_a_model_is_sampled_may_be_changed_when_it_is_loaded(folder: Path) -> None:
    plain = hiss.load(folder)
    changed = hiss.load(folder, sampling={"guidance": 3.0, "schedule": {"sigma_max": 5.0}, "interval": [0.1, 4]})
    mine, theirs = plain.model.config.sampling, changed.model.config.sampling
    assert theirs.schedule.to_dict() == mine.schedule.to_dict() | {"sigma_max": 5.0}
    assert theirs == replace(mine, guidance=3.0, interval=(0.1, 4.0), schedule=theirs.schedule)
    assert not same(plain.generate("7 bob", seed=0), changed.generate("7 bob", seed=0))
    other = hiss.load(folder, sampling={"schedule": {"name": "flow"}}).model.config.sampling.schedule
    assert other.to_dict()["name"] == "flow"
    for wrong, word in (({"gidance": 2}, "gidance"), ({"overlap": 2}, "overlap"), ({"schedule": 3}, "schedule")):
        with pytest.raises(UsageError, match=word):
            hiss.load(folder, sampling=wrong)


def test_a_precision_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown precision 'float16'"):
        hiss.load(folder, precision="float16")  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="device 'abacus' cannot be used"):
        hiss.load(folder, device="abacus")


def broken_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_misspelt_key_in_a_config_is_named(folder: Path) -> None:
    model = json.loads((folder / "config.json").read_text())["model"]
    broken_config(folder, model=model | {"secnods": 1.0})
    with pytest.raises(HissError, match=r"unknown key in model 'secnods' \(did you mean 'seconds'\?\)"):
        hiss.load(folder)


def test_a_config_of_a_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    broken_config(folder, format=99)
    with pytest.raises(HissError, match=r"format 99.*upgrade"):
        hiss.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe"])
def test_a_damaged_or_foreign_config_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(HissError, match=r"config\.json"):
        hiss.load(folder)


@pytest.mark.parametrize("content", [b"", b"not safetensors", struct.pack("<Q", 10**12) + b"{}"])
def test_damaged_weights_are_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(HissError, match="damaged"):
        hiss.load(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(HissError, match="damaged"):
        hiss.load(folder)


def test_foreign_weights_are_refused_with_an_example(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"other": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(HissError, match="does not fit"):
        hiss.load(folder)


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(HissError, match=r"lacks model\.safetensors"):
        hiss.load(folder)


def test_saving_where_no_folder_can_be_is_one_sentence(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HissError, match="cannot make the folder"):
        pipeline.save_pretrained(tmp_path / "file" / "model")


def test_audio_converts_to_numpy_with_channels_last(pipeline: Pipeline) -> None:
    assert np.asarray(pipeline.generate(7, seed=0)).shape == (200, 1)
