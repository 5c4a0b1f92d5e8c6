"""Makes the pictures and sounds of the documentation with the bundled models: `python docs/figures.py`."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import hiss
from hiss.audio import Audio
from hiss.cli.outputs import slug
from hiss.plot import picture

DOCS = Path(__file__).parent
RECORDINGS = Path(hiss.__file__).parent / "recordings"
WALK = (1, 2, 4, 8)
"""Steps after which the walk from noise to a digit is drawn."""

PROMPTS = (
    "a church organ holds a low C major chord",
    "one high note, A, from a flute",
    "a grand piano plays a slow melody in C major",
    "a trumpet scale going up, G major, steady",
    "a fast rock beat on a drum kit",
    "a snare drum roll, rapid strokes, loud",
    "people clapping their hands",
    "a violin plays a trill between D and E",
)
"""What the tutorial about words asks for."""

BOXES = {
    "audio": (0.4, 2.0, "audio"),
    "representation": (2.4, 2.0, "representation\naudio to x and back"),
    "x": (5.4, 2.0, "x = clean + sigma * noise"),
    "parameterization": (8.6, 2.0, "parameterization\nx to expected clean x"),
    "network": (11.7, 2.0, "network\nF(x, noise, condition)"),
    "prompt": (9.4, 0.6, "prompt"),
    "conditioner": (11.7, 0.6, "conditioner\nprompt to condition"),
    "schedule": (4.0, 3.4, "schedule\nwhich noise levels"),
    "sampler": (7.0, 3.4, "sampler\nwalks from noise to clean"),
}
"""Centre and text of what the picture of the idea shows; the six nouns are those with two lines."""
ARROWS = (
    ("audio", "representation"),
    ("representation", "x"),
    ("x", "parameterization"),
    ("parameterization", "network"),
    ("prompt", "conditioner"),
    ("conditioner", "network"),
    ("schedule", "sampler"),
    ("parameterization", "sampler"),
    ("sampler", "x"),
)


def main() -> None:
    """Writes docs/images/ and docs/sounds/."""
    draw_idea(DOCS / "images" / "idea.png")
    denoise()
    digits()
    sounds()
    music()


def draw_idea(path: Path) -> None:
    """Draws how the six nouns stand together."""
    figure = Figure(figsize=(13, 4), dpi=90, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, 13), ylim=(0, 4))
    axes.axis("off")
    patches = {}
    for name, (x, y, text) in BOXES.items():
        style = {
            "boxstyle": "round,pad=0.6",
            "facecolor": "#dbe7f3" if "\n" in text else "#f2f2f2",
            "edgecolor": "#3b6ea8",
        }
        patches[name] = axes.text(x, y, text, ha="center", va="center", fontsize=11, bbox=style).get_bbox_patch()
    figure.canvas.draw()  # boxes get their size
    for start, end in ARROWS:
        line: dict[str, Any] = {"arrowstyle": "<->" if "representation" in (start, end) else "->", "color": "#555555"}
        line |= {"patchA": patches[start], "patchB": patches[end], "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", xy=BOXES[end][:2], xytext=BOXES[start][:2], arrowprops=line)
    figure.savefig(path)


def denoise() -> None:
    """Writes and draws the noisy recording that comes with hiss, and what denoise-16k makes of it."""
    noisy, speech = (Audio.load(RECORDINGS / f"{name}.flac") for name in ("noisy-speech", "speech"))
    clean = hiss.load("denoise-16k").denoise(noisy)
    rows = [("speech with the noise of an exercise bike", noisy), ("denoise-16k, one step", clean)]
    picture([*rows, ("the speech alone", speech)], DOCS / "denoise.png")
    for name, sound in (("noisy", noisy), ("clean", clean)):
        keep(name, sound.cut(stop=min(5.0, sound.seconds)))


def digits() -> None:
    """Writes the digits of the tutorial, and draws the walk that leads to one."""
    pipeline = hiss.load("digits")
    rows: list[tuple[str, Audio]] = []

    def watch(done: int, total: int, estimate: torch.Tensor) -> None:
        if done in WALK:
            sound = pipeline.model.representation.decode(estimate)[0]
            rows.append((f"expected after step {done} of {total}", Audio(sound, pipeline.model.config.sample_rate)))

    seven = pipeline.generate("7 theo", seed=0, watch=watch)
    picture(rows, DOCS / "images" / "walk.png")
    beginning = seven.cut(stop=0.2)
    sounds = {
        "seven": seven,
        "similar": pipeline.generate(init=seven, strength=0.4, seed=2),
        "another ending": pipeline.generate("7 theo", continue_from=beginning, length=1.0, seed=3),
        "mended": pipeline.generate("7 theo", inpaint=seven, span=(0.2, 0.4), seed=3),
    }
    picture(list(sounds.items()), DOCS / "images" / "digits.png")
    for name, sound in sounds.items():
        keep(name, sound.normalize())


def sounds() -> None:
    """Writes and draws what the model of sounds makes of some prompts."""
    pipeline = hiss.load("sounds")
    rows = [(prompt, pipeline.generate(prompt, seed=1).normalize()) for prompt in PROMPTS]
    picture(rows, DOCS / "images" / "sounds.png")
    for number, (_, sound) in enumerate(rows, 1):
        keep(f"sounds {number}", sound)


def music() -> None:
    """Writes what the model of music makes; its picture is that of `benchmarks/music.py`, beside real music."""
    for number, sound in enumerate(hiss.load("classical").generate(count=3, length=10.0, seed=0), 1):
        keep(f"music {number}", sound.normalize())


def keep(name: str, sound: Audio) -> None:
    """Writes a sound where the pages look for it: MP3 is small, and every browser plays it."""
    sound.save(DOCS / "sounds" / f"{slug(name)}.mp3", resample=True)


if __name__ == "__main__":
    main()
