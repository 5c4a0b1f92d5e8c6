"""What was done over HTTP, as a command line and in Python, so that it can be done again without a server."""

import shlex
from dataclasses import dataclass

from hiss.web.asks import Denoise, Edit, Generate

RECORDING = "recording.wav"
"""What the file is called that was sent: its true name is not trusted."""

_ELSEWHERE = {"model", "prompt", "seed", "count", "format", "normalize", "how", "strength", "start", "end"}


@dataclass(frozen=True)
class Transcript:
    """One request, twice."""

    command: str = ""
    python: str = ""
    seed: int | None = None


def of_making(source: str, ask: Generate | Edit, seed: int) -> Transcript:
    """Returns how to get the sounds that a model, by name or folder, made from a seed."""
    own = {name: value for name, value in ask.model_dump(exclude_defaults=True).items() if name not in _ELSEWHERE}
    many = ask.count > 1
    flags: dict[str, object] = {"model": source, **own}
    words: dict[str, object] = {"count": ask.count, **own} if many else dict(own)
    load = ""
    if isinstance(ask, Edit):
        load = f"recording = hiss.Audio.load({RECORDING!r})\n"
        recording = _Name("recording")
        match ask.how:
            case "vary":
                flags |= {"init": RECORDING, "strength": ask.strength}
                words |= {"init": recording, "strength": ask.strength}
            case "continue":
                flags |= {"continue": RECORDING}
                words |= {"continue_from": recording}
            case "inpaint":
                flags |= {"inpaint": RECORDING, "span": f"{ask.start}:{ask.end}"}
                words |= {"inpaint": recording, "span": (ask.start, ask.end)}
    flags |= {"count": ask.count} if many else {}
    flags |= {"seed": seed} | ({} if ask.normalize is None else {"normalize": ask.normalize})
    prompt = [] if ask.prompt is None else [ask.prompt]
    call = f"hiss.load({source!r}).generate({_arguments(prompt, words | {'seed': seed})})"
    level = "" if ask.level == "none" else f".normalize({ask.level!r})"
    save = f'sound{level}.save("sound.wav")'
    if many:
        save = f'for number, sound in enumerate(sounds):\n    sound{level}.save(f"sound-{{number}}.wav")'
    return Transcript(
        _line(["hiss", "generate"], flags, ["-o", "sounds" if many else "sound.wav"], prompt),
        f"import hiss\n\n{load}sound{'s' * many} = {call}\n{save}\n",
        seed,
    )


def of_denoising(source: str, ask: Denoise) -> Transcript:
    """Returns how to denoise a recording with a model, by name or folder."""
    own = ask.model_dump(exclude_defaults=True, include={"steps", "keep_db"})
    arguments = _arguments([_Name(f"hiss.Audio.load({RECORDING!r})")], own)
    return Transcript(
        _line(["hiss", "denoise", RECORDING], {"model": source, **own}, ["-o", "clean.wav"], []),
        f'import hiss\n\nhiss.load({source!r}).denoise({arguments}).save("clean.wav")\n',
    )


class _Name(str):
    """A piece of Python that is written as it stands."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _arguments(values: list[str], named: dict[str, object]) -> str:
    return ", ".join([*map(repr, values), *(f"{name}={value!r}" for name, value in named.items())])


def _line(start: list[str], flags: dict[str, object], end: list[str], prompt: list[str]) -> str:
    """Returns a command line; the prompt comes last, behind what it could be taken for."""
    options: list[str] = []
    for name, value in flags.items():
        options += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*start, *options, *end, *(["--", *prompt] if prompt else [])])
