"""The training loop: what it promises about resuming, stopping, judging and writing down."""

import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from toy_run import Noise, SignalAt, Toy, config, fingerprint, run

from hiss.errors import HissError, UsageError
from hiss.training import Journal, TrainerConfig, checkpoints, engine, train
from hiss.training.engine import Engine, release
from hiss.types import Batch


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the weights of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    _, toy = run(folder)
    return folder, fingerprint(toy)


def script(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).with_name("toy_run.py")), str(folder), json.dumps(options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_killed_with_sigkill_resumes_to_the_same_bits(tmp_path: Path, reference: tuple[Path, str]) -> None:
    assert script(tmp_path, signal="SIGKILL", at=37).returncode == -9
    assert checkpoints.steps(tmp_path / "state")[-1] == 30
    result, toy = run(tmp_path)
    assert result.step == 60
    assert fingerprint(toy) == reference[1]
    last, _ = checkpoints.load(tmp_path / "state", 60)
    expected, _ = checkpoints.load(reference[0] / "state", 60)
    assert last.keys() == expected.keys()
    assert all(torch.equal(last[name], expected[name]) for name in last)
    timeless = [{k: v for k, v in row.items() if "second" not in k} for row in metrics(tmp_path)]
    assert timeless == [{k: v for k, v in row.items() if "second" not in k} for row in metrics(reference[0])]


def test_sigterm_saves_says_so_and_resumes_to_the_same_bits(tmp_path: Path, reference: tuple[Path, str]) -> None:
    done = script(tmp_path, signal="SIGTERM", at=33)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report-0.json").read_text())
    assert report["ended"] == "SIGTERM"
    assert checkpoints.steps(tmp_path / "state")[-1] == report["step"] == 34
    _, toy = run(tmp_path)
    assert fingerprint(toy) == reference[1]


def test_a_time_budget_ends_the_run_after_saving(tmp_path: Path) -> None:
    begun = time.monotonic()
    result = train(Toy(), config(steps=10**6, save_every=0), Noise(), Noise(), tmp_path, minutes=0.5 / 60)
    assert result.ended == "minutes"
    assert 0.5 <= result.seconds <= time.monotonic() - begun < 20
    assert result.best is not None
    assert checkpoints.steps(tmp_path / "state")[-1] == result.step < 10**6
    assert result.state.is_dir()


def test_training_off_the_main_thread_works_without_signals(tmp_path: Path) -> None:
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run(tmp_path, steps=3)[0].ended))
    thread.start()
    thread.join()
    assert ended == ["steps"]


def test_a_finished_run_resumes_to_itself_and_can_be_prolonged(tmp_path: Path) -> None:
    run(tmp_path, steps=10)
    result, _ = run(tmp_path, steps=10)
    assert (result.step, result.ended) == (10, "steps")
    result, _ = run(tmp_path, steps=15)
    assert result.step == 15


def test_a_second_run_in_the_same_folder_must_be_a_resume(tmp_path: Path) -> None:
    run(tmp_path, steps=5)
    with pytest.raises(UsageError, match="already holds a run of 5 steps; resume it"):
        train(Toy(), config(), Noise(), None, tmp_path)


def test_a_run_cannot_be_resumed_with_another_model_or_other_averages(tmp_path: Path) -> None:
    run(tmp_path, steps=5)
    other = Toy()
    other.net.append(nn.Linear(8, 8))
    with pytest.raises(UsageError, match="does not fit the saved run"):
        train(other, config(), Noise(), None, tmp_path, resume=True)
    with pytest.raises(UsageError, match=r"averages of length 0\.05, 0\.1; set trainer\.ema"):
        run(tmp_path, ema=[0.05])


def test_single_broken_steps_are_left_out_and_counted(tmp_path: Path) -> None:
    toy = Toy()
    data = Noise(broken=frozenset({8, 9, 30}))
    result = train(toy, config(accumulate=1, patience=3), data, None, tmp_path)
    assert result.skipped == 3
    assert all(p.isfinite().all() for p in toy.parameters())
    assert metrics(tmp_path)[-1]["train/skipped"] == 3


def test_a_loss_that_stays_nan_stops_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    data = Noise(broken=frozenset(range(41, 1000)))
    with pytest.raises(HissError, match=r"step 46: .* not finite in 5 steps in a row; .*000000041; look for") as caught:
        train(Toy(), config(accumulate=1, patience=5, save_every=1), data, None, tmp_path)
    assert "\n" not in str(caught.value)
    tensors, _ = checkpoints.load(tmp_path / "state", checkpoints.steps(tmp_path / "state")[-1])
    assert all(value.isfinite().all() for value in tensors.values())


def test_a_loss_that_diverges_stops_the_run(tmp_path: Path) -> None:
    settings = config(steps=1000, accumulate=1, save_every=50, divergence=5.0)
    with pytest.raises(HissError, match=r"the loss diverged .* the last good state is .*000000150; lower trainer"):
        train(Toy(), settings, Noise(loud_after=160), None, tmp_path)
    result = train(Toy(), replace(settings, steps=200, divergence=0.0), Noise(loud_after=160), None, tmp_path / "off")
    assert result.ended == "steps"


def test_gradient_accumulation_equals_a_large_batch(tmp_path: Path) -> None:
    _, parts = run(tmp_path / "parts", plain=True, batch_size=4, accumulate=4)
    _, whole = run(tmp_path / "whole", plain=True, batch_size=16, accumulate=1)
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_the_gradient_is_clipped_to_the_norm_asked_for(clip: float) -> None:
    engine = Engine(Toy(), config(clip=clip))
    seen: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        gradients = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        seen.append(float(torch.stack(gradients).norm()))

    engine.optimizer.optimizer.register_step_pre_hook(note)
    step = engine.step(0, Noise().batches(4, seed=0))
    release()
    assert step.norm > 0.01
    assert seen[0] == pytest.approx(0.01 if clip == 0.01 else step.norm, rel=1e-3)


def test_neither_flat_gains_nor_biases_in_lists_nor_bags_of_words_decay() -> None:
    class Parts(nn.Module):
        """What has more than one dimension and is no matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.biases = nn.ParameterList(torch.zeros(3, 4) for _ in range(2))
            self.position_bias_table = nn.Parameter(torch.zeros(3, 4))
            self.words = nn.EmbeddingBag(4, 8)
            self.conv = weight_norm(nn.Conv2d(4, 8, 3))
            self.debiased = nn.Linear(3, 4)

    parts = Parts()
    engine = Engine(parts, config(weight_decay=0.3))
    release()
    decays = {id(p) for group in engine.optimizer.param_groups for p in group["params"] if group["weight_decay"]}
    named = [name for name, p in parts.named_parameters() if id(p) in decays]
    assert named == ["conv.parametrizations.weight.original1", "debiased.weight"]


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Embedding(4, 8), nn.Conv1d(8, 8, 3), nn.LayerNorm(8))
    frozen = nn.Linear(8, 8).requires_grad_(False)
    engine = Engine(nn.ModuleList([module, frozen]), config(weight_decay=0.3))
    release()
    decays = {id(p): group["weight_decay"] for group in engine.optimizer.param_groups for p in group["params"]}
    named = {name: decays.get(id(p)) for name, p in nn.ModuleList([module, frozen]).named_parameters()}
    assert named == {
        "0.0.weight": 0.0,
        "0.1.weight": 0.3,
        "0.1.bias": 0.0,
        "0.2.weight": 0.0,
        "0.2.bias": 0.0,
        "1.weight": None,
        "1.bias": None,
    }


def test_only_the_weights_asked_for_are_trained_and_the_run_resumes(tmp_path: Path) -> None:
    toy, start = Toy(), Toy().state_dict()
    chosen = replace(config(), only=("net.3.*",))
    train(toy, replace(chosen, steps=20), Noise(), None, tmp_path)
    resumed = Toy()
    train(resumed, replace(chosen, steps=40), Noise(), None, tmp_path, resume=True)
    whole = Toy()
    train(whole, replace(chosen, steps=40, decay="constant"), Noise(), None, tmp_path / "whole")
    for made in (toy, resumed, whole):
        same = {name: torch.equal(tensor, start[name]) for name, tensor in made.state_dict().items()}
        assert same == {"net.0.weight": True, "net.0.bias": True, "net.3.weight": False, "net.3.bias": False}


def test_a_pattern_that_no_weight_matches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no weight matches \*\.layers\.\* in trainer\.only.*net\.0\.weight"):
        train(Toy(), replace(config(), only=("*.layers.*",)), Noise(), None, tmp_path)


def test_the_state_holds_the_last_and_the_best_step_only(tmp_path: Path) -> None:
    class Worse(Noise):
        """Validation whose first pass is the easiest."""

        passes = 0

        def once(self, batch_size: int) -> Iterator[Batch]:
            Worse.passes += 1
            for each in super().once(batch_size):
                yield replace(each, audio=each.audio * (1.0 if Worse.passes <= 2 else 3.0))

    handed: list[tuple[str, str]] = []

    def export(folder: Path, objective: nn.Module) -> None:
        assert not objective.training
        handed.append((folder.name, fingerprint(objective)))

    toy = Toy()
    result = train(toy, config(), Noise(), Worse(), tmp_path, export=export)
    assert result.best is not None
    assert result.best.step == 20
    assert checkpoints.steps(tmp_path / "state") == [20, 60]
    assert [name for name, _ in handed] == ["last", "model", "last", "last", "last", "last", "last"]
    assert len({print_ for _, print_ in handed}) == 6, "best and last of step 20 are the same average"
    assert handed[-1][1] != fingerprint(toy), "averages are handed out, and the trained weights come back"


def test_the_best_is_kept_with_the_weights_that_were_judged_and_disturbs_nothing(
    tmp_path: Path, reference: tuple[Path, str]
) -> None:
    result, toy = run(tmp_path, keep_best=True)
    assert fingerprint(toy) == reference[1]
    (kept,) = checkpoints.best(tmp_path)
    numbers = json.loads((kept / "state.json").read_text())
    assert result.best is not None
    assert (numbers["step"], numbers["loss"], numbers["epoch"]) == (result.best.step, result.best.loss, None)
    weights = load_file(kept / "tensors.safetensors")
    state, _ = checkpoints.load(tmp_path / "state", result.best.step)
    average = torch.cat([weights[f"model/{name}"].flatten() for name, _ in toy.named_parameters()])
    torch.testing.assert_close(average, state[f"ema/{result.best.length}"])
    assert all(torch.equal(weights[name], state[name]) for name in state if name.startswith("optimizer/"))


def test_epochs_need_data_of_known_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give trainer\.steps"):
        run(tmp_path, epochs=2)
    data = Noise()
    data.size = 40
    assert train(Toy(), config(epochs=2), data, None, tmp_path).step == 2 * 40 / 8


def test_validation_is_the_mean_over_all_examples_with_the_same_noise(tmp_path: Path) -> None:
    losses = []
    for name, size in (("a", 4), ("b", 10)):
        settings = config(steps=1, batch_size=size, accumulate=1, learning_rate=0.0, ema=[])
        result = train(Toy(plain=True), settings, Noise(), Noise(examples=25), tmp_path / name)
        assert result.best is not None
        assert result.best.length is None
        losses.append(result.best.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    values = {row["validation/loss"] for row in metrics_of_still_weights(tmp_path / "c")}
    assert len(values) == 1


def metrics_of_still_weights(folder: Path) -> list[dict[str, float]]:
    settings = config(steps=6, learning_rate=0.0, validate_every=2, ema=[])
    train(Toy(), settings, Noise(), Noise(), folder)
    return [row for row in metrics(folder) if "validation/loss" in row]


def test_validation_notes_all_that_the_objective_returns(tmp_path: Path) -> None:
    train(Toy(plain=True), config(steps=1), Noise(), Noise(examples=4), tmp_path)
    (row,) = (row for row in metrics(tmp_path) if "validation/loss" in row)
    assert row["validation/error_root"] == pytest.approx(row["validation/loss"] ** 0.5)
    assert row["validation/loss"] == min(row["validation/loss_ema_0.05"], row["validation/loss_ema_0.1"])


def test_validation_without_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no example"):
        train(Toy(), config(steps=1), Noise(), Noise(examples=0), tmp_path)


def test_metrics_and_tensorboard_hold_what_happened(reference: tuple[Path, str]) -> None:
    rows = metrics(reference[0])
    trained = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in trained] == [10, 20, 30, 40, 50, 60]
    assert trained[2]["train/learning_rate"] == config().rate(29)
    assert all(math.isclose(row["train/error_root"] ** 2, row["train/loss"], rel_tol=0.1) for row in trained)
    assert {"train/gradient_norm", "train/skipped", "train/examples_per_second"} <= trained[0].keys()
    judged = [row for row in rows if "validation/loss" in row]
    assert [row["step"] for row in judged] == [20, 40, 60]
    assert judged[-1]["validation/loss"] < judged[0]["validation/loss"]
    assert list((reference[0] / "tensorboard").glob("events*"))


def test_the_loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, float, float, float]] = []

    class Listener:
        def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
            told.append((step, loss, examples_per_second, seconds_left))

    train(Toy(), config(), Noise(), None, tmp_path, progress=Listener(), minutes=5)
    assert [step for step, *_ in told] == list(range(1, 61))
    assert told[-1][1] < 0.7 * told[0][1]
    assert all(speed > 0 for _, _, speed, _ in told)
    assert told[-1][3] == 0 <= told[0][3] <= 300


def test_preparing_the_data_does_not_count_as_slow_steps(tmp_path: Path) -> None:
    told: list[float] = []

    class Prepared(Noise):
        def batches(self, batch_size: int, **place: Any) -> Iterator[Batch]:
            time.sleep(3)
            return super().batches(batch_size, **place)

    class Listener:
        def update(self, step: int, loss: float, examples_per_second: float, seconds_left: float) -> None:
            told.append(seconds_left)

    train(Toy(), config(), Prepared(), None, tmp_path, progress=Listener())
    assert told[9] < 15  # fifty steps of as long as the ten before; with the three seconds they would take longer


def test_demos_hear_averaged_weights_and_do_not_disturb_the_run(tmp_path: Path, reference: tuple[Path, str]) -> None:
    shown = []

    def demo(step: int, objective: nn.Module, journal: Journal) -> None:
        torch.randn(100)
        journal.scalars(step, {"demo/mean": 1.0})
        shown.append((step, objective.training, torch.is_grad_enabled()))

    toy = Toy()
    train(toy, config(demo_every=25), Noise(), Noise(), tmp_path, demo=demo)
    assert shown == [(25, False, False), (50, False, False)]
    assert fingerprint(toy) == reference[1]


def test_training_leaves_the_global_random_state_and_the_objective_as_they_were(tmp_path: Path) -> None:
    toy = Toy()
    before = torch.get_rng_state()
    train(toy, config(steps=3, precision="bf16"), Noise(), Noise(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert "forward" not in vars(toy)
    assert toy.training


def test_bf16_trains_float32_weights(
    tmp_path: Path, reference: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "computes_bf16", lambda: True)
    result, toy = run(tmp_path, precision="bf16")
    assert all(p.dtype == torch.float32 for p in toy.parameters())
    plain = metrics(reference[0])[-1]["validation/loss"]
    assert result.best is not None
    assert result.best.loss == pytest.approx(plain, rel=0.05)
    assert result.best.loss != plain


@pytest.mark.skipif(torch.accelerator.is_available(), reason="bf16 works on this machine")
def test_a_cpu_without_bf16_trains_in_float32_and_says_so(
    tmp_path: Path,
    reference: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    _, toy = run(tmp_path, precision="bf16")
    assert fingerprint(toy) == reference[1]
    assert "trained in float32" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 works on this machine")
def test_fp16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        run(tmp_path, precision="fp16")
    run(tmp_path, steps=1)


def test_a_crash_between_writing_and_renaming_leaves_the_old_state(
    tmp_path: Path, reference: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        if re.search("000000040", str(target)):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert checkpoints.steps(tmp_path / "state") == [20, 30]
    assert (tmp_path / "state" / "000000040.part").is_dir()
    _, toy = run(tmp_path)
    assert fingerprint(toy) == reference[1]
    assert not list((tmp_path / "state").glob("*.part"))


@pytest.mark.parametrize("count", [3, 7, 40])
def test_there_are_as_many_snapshots_as_asked_for_evenly_spread_up_to_the_end(tmp_path: Path, count: int) -> None:
    run(tmp_path, snapshots=count, ema=[0.1], validate_every=0, save_every=0)
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    steps = [math.ceil(60 * number / count) for number in range(1, count + 1)]
    assert names == [f"{step:09d}-0.1.safetensors" for step in steps]
    assert (len(steps), steps[-1]) == (count, 60)


def test_a_resumed_run_takes_the_same_snapshots(tmp_path: Path) -> None:
    settings = config(snapshots=7, ema=[0.1], validate_every=0)
    train(Toy(), settings, Noise(), None, tmp_path, progress=SignalAt(signal.SIGINT, 33))
    assert train(Toy(), settings, Noise(), None, tmp_path, resume=True).ended == "steps"
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == [f"{step:09d}-0.1.safetensors" for step in (9, 18, 26, 35, 43, 52, 60)]


def test_importing_the_trainer_imports_no_heavy_library() -> None:
    heavy = "('accelerate', 'tensorboard', 'matplotlib')"
    code = f"import sys, hiss.training; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_trainer_survives_the_round_trip_through_json() -> None:
    settings = TrainerConfig(warmup=100, decay="inverse_sqrt")
    assert TrainerConfig.from_dict(json.loads(settings.to_json())) == settings


def test_what_a_run_noted_that_failed_before_its_first_state_is_forgotten(tmp_path: Path) -> None:
    class Failing(Noise):
        def batches(self, *args: Any, **options: Any) -> Iterator[Batch]:
            for number, batch in enumerate(super().batches(*args, **options)):
                if number == 10:
                    raise HissError("the disk is gone")
                yield batch

    options = {"steps": 8, "log_every": 1, "save_every": 0, "validate_every": 0, "snapshots": 0}
    with pytest.raises(HissError, match="the disk is gone"):
        train(Toy(), config(**options), Failing(), None, tmp_path)
    train(Toy(), config(**options), Noise(), None, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    noted = [line["step"] for line in lines if "train/loss" in line]
    assert noted == sorted(set(noted))
    assert noted[-1] == 8
