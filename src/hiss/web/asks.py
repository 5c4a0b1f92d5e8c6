"""What can be asked for over HTTP, as pydantic sees it: the ranges that hold for every model, and examples."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hiss.audio import Level
from hiss.generation import STRENGTH, level_asked
from hiss.web.limits import LONGEST, MOST_SOUNDS, MOST_STEPS

Format = Literal["wav", "flac", "ogg", "opus", "mp3"]

MEDIA: dict[Format, str] = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "opus": "audio/ogg; codecs=opus",
    "mp3": "audio/mpeg",
}
"""The media type of each format."""

_Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]


class _Ask(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, max_length=200, description="A name from /v1/models; one that fits by default.")
    steps: _Steps | None = Field(None, description="Sampling steps; the model's own choice by default.")
    format: Format = Field("wav", description="Of the answer; the sounds of a job come in any.")


class _Make(_Ask):
    prompt: str | None = Field(None, max_length=2000, description="What to make; anything by default.", examples=["7"])
    length: float | None = Field(None, gt=0, le=LONGEST, description="Seconds; the model's own length by default.")
    sampler: str | None = Field(None, max_length=100, description="How to walk from noise to sound.")
    guidance: float | None = Field(
        None, ge=-1000, le=1000, description="How strictly to follow the prompt; 1 is as trained."
    )
    negative: str | None = Field(
        None, max_length=2000, description="A prompt to stay away from; needs guidance above 1."
    )
    temperature: float = Field(1.0, ge=0, le=10, description="Scale of all noise; below 1 is tamer.")
    seed: int | None = Field(
        None, ge=0, lt=1 << 63, description="The same seed gives the same sounds; drawn by default."
    )
    count: int = Field(1, ge=1, le=MOST_SOUNDS, description="How many sounds; more than one are answered as a ZIP.")
    normalize: Level | None = Field(
        None, description="Level of each sound; by default peak, but none where a part of a recording is kept."
    )

    @property
    def keeps(self) -> bool:
        """Whether the sounds keep a part of a recording."""
        return False

    @property
    def level(self) -> Level:
        """What the sounds are brought to."""
        return level_asked(self.normalize, keeps=self.keeps)


class Generate(_Make):
    """Sounds from noise."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "digits", "prompt": "7 theo", "seed": 1}, {"model": "tones"}]}
    )

    loop: bool = Field(False, description="Make the end lead seamlessly to the start.")


class Edit(_Make):
    """Sounds from a recording: a variation of it, its continuation, or a part of it made anew."""

    how: Literal["vary", "continue", "inpaint"] = Field(description="What to do with the recording.", examples=["vary"])
    strength: float = Field(
        STRENGTH, gt=0, le=1, description="How far to vary, only where how is vary; 1 forgets it all."
    )
    start: float | None = Field(None, ge=0, description="Seconds from which on to inpaint.")
    end: float | None = Field(None, gt=0, description="Seconds up to which to inpaint.")

    @property
    def keeps(self) -> bool:
        return self.how != "vary"


class Denoise(_Ask):
    """A recording without its noise."""

    keep_db: float | None = Field(None, ge=0, le=200, description="Lower the noise by at most so many dB.")
