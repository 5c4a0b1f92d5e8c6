"""Denoises an hour of speech in noise, and says what it took and whether its blocks can be heard.

    OMP_NUM_THREADS=1 python benchmarks/hour.py [--model denoise-16k] [--minutes 60] [--causal]

The recording that comes with the package is repeated, each time in other white noise, at the rate of the model. Memory
is that of the whole process at its highest. A causal model works on blocks (`hiss.denoising.BLOCK`), one that looks
ahead on windows, of which the end is only looked at. A seam would show as a change of the spectrum from one frame of
16 ms to the next that is larger between these than anywhere else.
"""

import argparse
import resource
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import soundfile
import torch

from hiss.audio import Audio
from hiss.denoise_files import denoise_audio
from hiss.denoising import BLOCK, coding_by_frames
from hiss.model import AudioDiffusionModel
from hiss.noise import seeded
from hiss.pipeline import load
from hiss.signal.mixing import mix
from hiss.signal.stft import stft

FRAME = 0.016
"""Seconds."""


def write(path: Path, seconds: float, rate: int) -> None:
    """Writes a noisy recording of that many seconds."""
    speech = Audio.load(Path(str(files("hiss") / "recordings" / "speech.flac"))).resample(rate).samples
    left, turn = round(seconds * rate), 0
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        while left:
            noisy = mix(speech, torch.randn(speech.shape, generator=seeded("hour", turn)), 5.0)
            part = 0.25 * noisy[0, :left]
            file.write(part.numpy())
            left, turn = left - len(part), turn + 1


def seams(model: AudioDiffusionModel, *, causal: bool) -> tuple[float, float, float]:
    """Returns every how many seconds there could be a seam, when for the first time, and how long it takes."""
    framewise = coding_by_frames(model) is not None
    if framewise and (causal or not model.denoiser.network.ahead):
        return BLOCK, BLOCK, 0.0
    window = model.config.window / model.config.sample_rate
    shared = model.config.sampling.overlap * window
    if framewise:
        return window - shared, window - shared, 0.0
    return window - shared, window - shared / 2, shared / 2


def jumps(path: Path, rate: int, seams: tuple[float, float, float]) -> tuple[float, float]:
    """Returns the largest change of the log spectrum, in dB, at a seam and at any other place."""
    every, first, lasts = seams
    hop = round(FRAME * rate)
    found: list[torch.Tensor] = []
    with soundfile.SoundFile(path) as file:
        for block in file.blocks(60 * rate, dtype="float32"):
            spectrum = stft(torch.from_numpy(block)[None], n_fft=2 * hop, hop=hop)[0].abs()
            level = 20 * spectrum.clamp(min=1e-4).log10()
            found.append(level.diff(dim=-1).abs().mean(dim=0)[1:-1])  # the ends of a minute are padded
    minutes = [(60 * index + FRAME * (1 + torch.arange(len(one))), one) for index, one in enumerate(found)]
    times, changes = (torch.cat(parts) for parts in zip(*minutes, strict=True))
    near = ((times - first + every / 2) % every - every / 2).abs() < lasts / 2 + 3 * FRAME
    return float(changes[near].max()), float(changes[~near].max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="denoise-16k")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--causal", action="store_true", help="as a stream does it")
    options = parser.parse_args()
    pipeline = load(options.model)
    rate = pipeline.model.config.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        noisy, clean = Path(folder) / "noisy.wav", Path(folder) / "clean.wav"
        write(noisy, 60 * options.minutes, rate)
        began = time.perf_counter()
        denoise_audio(options.model, noisy, clean, causal=options.causal)
        took = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform != "darwin" else 1 << 30)
        lengths = [soundfile.info(path).frames for path in (noisy, clean)]
        at_seams, elsewhere = jumps(clean, rate, seams(pipeline.model, causal=options.causal))
    print(f"{options.minutes:g} minutes in {took:.0f} s: real-time factor {took / 60 / options.minutes:.4f}")
    print(f"memory of the process: {memory:.2f} GiB; samples: {lengths[0]} in, {lengths[1]} out")
    print(f"largest change of the spectrum: {at_seams:.1f} dB where parts meet, {elsewhere:.1f} dB elsewhere")


if __name__ == "__main__":
    main()
