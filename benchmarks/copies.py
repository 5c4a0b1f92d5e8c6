"""Measures what a latent model loses before diffusion: by its vocoder alone, and by its autoencoder and its vocoder.

    OMP_NUM_THREADS=1 python benchmarks/copies.py [--model sounds] [--vocoder FOLDER ...] [--limit N] [--json FILE]

Recordings of the test splits of `$HISS_DATA/sounds` and `$HISS_DATA/speech` become mel spectra and then sound again.
The first table has the distance of their mel spectra in nepers (mean over five windows), PESQ-WB of speech, and the
real-time factor from mel spectra to sound; the second asks the judge of sounds whether families and instruments are
still heard, whether the named notes are, and how far the copies are from the real recordings as a set (FAD). Other
vocoders, of the same mel profile, come in by `--vocoder`. It needs PESQ (pip install 'hiss[metrics]'), and for speed a
machine that is otherwise idle.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hiss.audio import Audio
from hiss.data.files import expand_variable
from hiss.evaluation.clips import read_clips
from hiss.evaluation.embeddings import find, questions
from hiss.evaluation.speech import pesq
from hiss.evaluation.text_to_audio import Captioned, evaluate_text
from hiss.pipeline import load
from hiss.representations.latent import Latent
from hiss.saved import read_part
from hiss.signal.mel_losses import multi_scale_mel_error
from hiss.vocoders import Vocoder

Way = Callable[[Tensor], Tensor]
"""Log-mel [bins, frames] -> audio [samples]."""


def ways(model: str, others: Sequence[Path]) -> tuple[Latent, dict[str, Way]]:
    """Returns the representation of a model, and what becomes of a mel spectrum by name."""
    latent = load(model).model.representation
    if not isinstance(latent, Latent):
        raise SystemExit(f"{model} is no latent model")
    vae, own = latent.vae, latent.vocoder
    found: dict[str, Way] = {
        f"vocoder ({own.config.name})": own,
        "autoencoder and vocoder": lambda mel: own(vae(mel[None])[0]),
    }
    for folder in others:
        vocoder = cast(Vocoder, read_part(folder, "vocoder")).eval()
        found[f"{folder} ({vocoder.config.name})"] = lambda mel, vocoder=vocoder: vocoder(mel)  # type: ignore[misc]
    return latent, found


def copied(audio: Audio, latent: Latent, way: Way) -> tuple[Audio, float]:
    """Returns a copy of a recording, and how many seconds it took to make it of its mel spectrum."""
    profile = latent.config.vae.mel
    mel = profile(audio.samples[0])
    began = time.perf_counter()
    samples = way(mel)
    took = time.perf_counter() - began
    return Audio(samples[None, : audio.samples.shape[1]], profile.sample_rate), took


def row(clips: Sequence[Audio], latent: Latent, way: Way, *, speech: bool) -> tuple[list[Audio], dict[str, float]]:
    """Returns the copies of recordings, and their figures."""
    rate = latent.sample_rate
    copies, distances, scores, seconds = [], [], [], 0.0
    for clip in clips:
        copy, took = copied(clip, latent, way)
        seconds += took
        copies.append(copy)
        distances.append(float(multi_scale_mel_error(copy.samples[None], clip.samples[None], sample_rate=rate)))
        if speech and (score := pesq(clip, copy)) is not None:
            scores.append(score)
    figures = {"mel distance": sum(distances) / len(distances)}
    figures["real-time factor"] = seconds / sum(clip.seconds for clip in clips)
    if scores:
        figures["PESQ-WB"] = sum(scores) / len(scores)
    return copies, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sounds")
    parser.add_argument("--vocoder", type=Path, action="append", default=[], help="folder of another one")
    parser.add_argument("--limit", type=int, help="recordings of each pack")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    latent, found = ways(options.model, options.vocoder)
    packs = {}
    for pack in ("sounds", "speech"):
        clips = read_clips(Path(expand_variable(f"$HISS_DATA/{pack}")) / f"{pack}-test-*.tar")[: options.limit]
        packs[pack] = [(clip, clip.audio.to_channels(1).resample(latent.sample_rate)) for clip in clips]
    known = questions("sounds")
    real = [
        Captioned(audio, str(clip.metadata["text"]), clip.labels(known), str(clip.metadata["kind"]))
        for clip, audio in packs["sounds"]
    ]
    report: dict[str, Any] = {}
    with torch.no_grad():
        for name, way in found.items():
            report[name] = {}
            for pack, pairs in packs.items():
                copies, figures = row([audio for _, audio in pairs], latent, way, speech=pack == "speech")
                report[name][pack] = figures
                if pack == "sounds":
                    made = [replace(one, audio=copy) for copy, one in zip(copies, real, strict=True)]
                    judged = evaluate_text(made, real, embedding=find("sounds"))
                    for question, figure in judged.figures.items():
                        report[name][pack][question] = figure.generated
                        report.setdefault("real", {}).setdefault(pack, {})[question] = figure.real
                    report[name][pack]["FAD"] = judged.generation.figures["fad"]
    for name, figures in report.items():
        print(name)
        for pack, values in figures.items():
            print(f"  {pack}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items() if value is not None))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
