"""The house keeps its order: imports point one way, only the command line prints, nothing is unpickled."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hiss

SOURCE = Path(hiss.__file__).parent
ORDER = (
    *("errors", "spec", "types", "once", "captions", "noise", "audio", "plot", "signal", "diffusion", "networks"),
    *("vocoders", "autoencoder", "representations", "clap", "conditioners"),
    *("config", "model", "lora", "rounding", "saved"),
    *("denoising", "generation", "prompting", "pipeline", "denoise_files", "denoise_folders"),
    *("data", "training", "evaluation", "interop", "web", "cli", "__main__"),
)
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "torch.load": "unpickles; safetensors.torch.load_file does not",
    "torch.set_default_dtype": "is a global flag",
    "np.random.seed": "touches the global generator",
    "random.seed": "touches the global generator",
}
UNPICKLERS = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}


def house(path: Path) -> str:
    """Returns the name in ORDER that a file belongs to: its folder, or the file itself."""
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields (line, dotted module) for every import in a file, also those inside functions."""
    package = ("hiss", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yields (line, what is called as it is written, the call) for every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def at(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(SOURCE)}:{line}: {what}"


def test_every_file_has_its_place_in_the_order() -> None:
    assert {house(path) for path in FILES} <= {*ORDER, "__init__"}


def test_a_module_imports_only_from_names_to_its_left_or_from_its_own_folder() -> None:
    wrong = []
    for path in FILES:
        home = house(path)
        if home == "__init__":
            continue
        for line, module in imports(path):
            root, *rest = module.split(".")
            if root != "hiss":
                continue
            if not rest or rest[0] not in ORDER:
                wrong.append(at(path, line, f"imports {module}, the public names, which come last"))
            elif rest[0] != home and ORDER.index(rest[0]) > ORDER.index(home):
                wrong.append(at(path, line, f"{home} imports {rest[0]}, which stands to its right"))
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_prints() -> None:
    wrong = [
        at(path, line, name)
        for path in FILES
        if house(path) not in ("cli", "__main__")
        for line, name, _ in calls(path)
        if name in ("print", "sys.stdout.write", "sys.stderr.write", "rich.print", "typer.echo")
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_evaluates_text_unpickles_or_touches_global_state() -> None:
    wrong = []
    for path in FILES:
        for line, module in imports(path):
            if module.split(".")[0] in UNPICKLERS:
                wrong.append(at(path, line, f"imports {module}"))
        for line, name, call in calls(path):
            if name in FORBIDDEN_CALLS:
                wrong.append(at(path, line, f"{name} {FORBIDDEN_CALLS[name]}"))
            if name.endswith(".cuda"):
                wrong.append(at(path, line, f"{name}() names a device; .to(device) asks for one"))
            if any(word.arg == "allow_pickle" and not _is_false(word.value) for word in call.keywords):
                wrong.append(at(path, line, f"{name} may unpickle"))
    assert not wrong, "\n".join(wrong)


def test_who_seeds_the_global_generator_puts_it_back() -> None:
    # Initial weights and dropout listen to no other.
    used: dict[str, set[str]] = {}
    for path in FILES:
        used.setdefault(house(path), set()).update(name for _, name, _ in calls(path))
    for home, names in used.items():
        assert "torch.manual_seed" not in names or "torch.random.fork_rng" in names, home


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def test_importing_hiss_leaves_torch_as_it_was() -> None:
    script = """
import json, torch
def state():
    return [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.get_num_threads(),
            torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark, torch.get_rng_state().tolist()]
before = state()
import hiss
for name in hiss.__all__: getattr(hiss, name)
print(json.dumps(before == state()))
"""
    assert json.loads(_python(script)) is True


def test_importing_hiss_costs_next_to_nothing_and_all_of_its_names_a_fifth_of_torch() -> None:
    # Time on the processor, so that a busy machine does not fail the test; beside torch, so that a slow one does not;
    # without the garbage collector, which goes through all that torch has made, in whichever part it happens to run.
    script = """
import gc, json, time
gc.disable()
times = [time.process_time()]
import torch
times.append(time.process_time())
import hiss
times.append(time.process_time())
for name in hiss.__all__: getattr(hiss, name)
times.append(time.process_time())
print(json.dumps([end - start for start, end in zip(times, times[1:])]))
"""
    torch_alone, hiss_alone, all_names = json.loads(_python(script))
    assert hiss_alone < 0.2
    assert all_names < torch_alone / 5


def test_importing_all_of_hiss_loads_no_heavy_library() -> None:
    script = """
import json, sys, hiss
for name in hiss.__all__: getattr(hiss, name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    heavy = {
        "accelerate",
        "diffusers",
        "librosa",
        "matplotlib",
        "pyloudnorm",
        "scipy",
        "tensorboard",
        "tokenizers",
        "transformers",
    }
    assert not heavy & set(json.loads(_python(script)))


def _python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_about_fifteen_and_all_are_there() -> None:
    names = hiss.__all__
    assert 10 <= len(names) <= 20
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(hiss, name), name


@pytest.mark.parametrize("name", sorted(getattr(hiss, "__all__", [])))
def test_every_public_name_explains_itself(name: str) -> None:
    if not name.startswith("__"):
        assert (getattr(hiss, name).__doc__ or "").strip()
