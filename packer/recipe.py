"""The recipe: how media become parts."""

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from clipshards.packer.encoding import RECIPES, Audio, Encoding, Preset
from clipshards.packer.format.video import FrameTableMode

MediaMode = Literal["copy", "remux", "sparse", "balanced", "fast", "intra"]
FeaturesMode = Literal["file", "compute"]
KeepAudio = Literal["no", "source", "wav", "flac"]

# Task -> what shapes its parts.
_CONCERNS: dict[str, tuple[str, ...]] = {
    "video": ("media", "frame_table"),
    "rawframes": ("frame_table",),
    "skeleton": (),
    "audio": ("features", "keep_audio"),
    "ava": (),
    "activitynet": ("media", "frame_table"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How media become parts; the default keeps the source's bytes untouched."""

    media: MediaMode = "copy"
    """Of videos. `copy`: the source's bytes. `remux`: an mp4 of the source's packets, frames
    and sound unchanged. The others encode videos anew, which loses a little of the picture:
    see `clipshards.packer.encoding.RECIPES`."""
    frame_table: FrameTableMode = "decode"
    """`decode`: one decode per video, which also proves it decodable. `demux`: made of the
    container's times, a few pictures decoded. `none`: videos are packed undecoded, and readers
    decode them from their start."""
    features: FeaturesMode = "file"
    """`file`: audio records name files of features. `compute`: they name sounds or videos,
    of whose first audio stream the mel features are computed."""
    keep_audio: KeepAudio = "no"
    """What of a sound is kept beside its computed features. `source`: its own audio stream.
    `wav`, `flac`: the decoded sound in 16 bits."""
    audio: Audio = "keep"
    """Of videos that are not copied: the first sound track, or none."""
    short_side: int = 0
    """Of encoded videos: pixels of the shorter side, even, which larger ones are scaled down
    to; 0 for no scaling."""
    fps: float | Fraction = 0
    """Of encoded videos: frames per second; 0 for the source's own frames, in their own time."""
    gop: int = 0
    """Of encoded videos: frames between random-access points, at most; 0 for the recipe's."""
    crf: int = 23
    """Of encoded videos: constant rate factor of x264, 0 to 51."""
    preset: Preset = "medium"
    """Of encoded videos: x264's, whose slower ones make smaller files."""
    if_needed: bool = False
    """Copy a video that already is what the recipe would make of it; `crf`, `preset` and
    deblocking are not asked about."""
    allow_unpinned: bool = False
    """Encode on a machine where the bytes may differ from those of others."""

    def __post_init__(self) -> None:
        choices = {
            "media": MediaMode,
            "frame_table": FrameTableMode,
            "features": FeaturesMode,
            "keep_audio": KeepAudio,
            "audio": Audio,
            "preset": Preset,
        }
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                words = name.replace("_", " ")
                raise ValueError(
                    f"{words} {getattr(self, name)!r}: expected one of {get_args(known)}"
                )
        if self.keep_audio != "no" and self.features != "compute":
            raise ValueError(
                f"keep audio {self.keep_audio!r}: there is sound only where features are computed"
            )
        if self.audio == "drop" and self.media == "copy":
            raise ValueError("audio 'drop': a copied video keeps its sound (recipe remux drops it)")
        self._check_encoding()

    def _check_encoding(self) -> None:
        ranges = {"short_side": (0, 16_384), "gop": (0, 100_000), "crf": (0, 51)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(
                    f"{name} {value!r}: expected a whole number from {least} to {most}"
                )
        if self.short_side % 2:
            raise ValueError(f"short_side {self.short_side}: expected an even number")
        for name in ("if_needed", "allow_unpinned"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected True or False")
        if type(self.fps) not in (int, float, Fraction) or not 0 <= self.fps <= 1000:
            raise ValueError(f"fps {self.fps!r}: expected a number from 0 to 1000")
        rate = _rate(self.fps)
        if bool(rate) != bool(self.fps) or max(rate.numerator, rate.denominator) >= 2**31:
            raise ValueError(f"fps {self.fps!r}: too small, or too fine a fraction")
        if self.media != "copy" and self.frame_table != "decode":
            raise ValueError(
                f"frame table {self.frame_table!r}: videos that are not copied always get one by "
                "decoding, which proves them whole"
            )
        if self.media == "intra" and self.gop > 1:
            raise ValueError(f"gop {self.gop}: recipe intra is of random-access points alone")
        if self.media in RECIPES:
            return
        plain = Recipe.__dataclass_fields__
        for name in ("short_side", "fps", "gop", "crf", "preset", "if_needed", "allow_unpinned"):
            if getattr(self, name) != plain[name].default:
                raise ValueError(
                    f"{name} {getattr(self, name)}: needs a recipe that encodes, one of "
                    f"{', '.join(RECIPES)}"
                )

    def check_task(self, task: str) -> None:
        """Check that samples of a task can be made so, here.

        Raises:
            ValueError: They cannot.
        """
        if self.media != "copy" and "media" not in _CONCERNS[task]:
            raise ValueError(f"recipe {self.media}: is of videos, not of task {task}")
        if self.encoding is None or self.allow_unpinned:
            return
        from clipshards.packer.media.x264 import pinned_fault

        fault = pinned_fault()
        if fault:
            raise ValueError(
                f"recipe {self.media}: {fault}, so that encoded videos may differ from "
                "what other machines make; allow it (--allow-unpinned) if all shards are made here"
            )

    @property
    def encoding(self) -> Encoding | None:
        """How videos are encoded; None where they are not."""
        if self.media not in RECIPES:
            return None
        known = RECIPES[self.media]
        fps = _rate(self.fps)
        return replace(
            known,
            gop=self.gop or known.gop,
            short_side=self.short_side,
            fps=(fps.numerator, fps.denominator),
            crf=self.crf,
            preset=self.preset,
            audio=self.audio,
        )

    def to_json(self, task: str) -> dict[str, Any]:
        """Return what of the recipe concerns a task, as the index and the manifest hold it."""
        value = {name: getattr(self, name) for name in _CONCERNS[task]}
        if "media" not in value or self.media == "copy":
            return value
        if self.encoding is None:
            return value | {"audio": self.audio}
        # PyAV is loaded when something is encoded, not with the package.
        from clipshards.packer.media.x264 import encoder_identity

        encoding = asdict(self.encoding) | {"fps": list(self.encoding.fps)}
        return value | {
            "encoding": encoding,
            "if_needed": self.if_needed,
            # Another one may give other bytes: a job cannot go on with it.
            "encoder": encoder_identity(),
        }


def _rate(fps: float | Fraction) -> Fraction:
    """Return a rate as a fraction: of 29.97 and the like, the broadcast rate that is meant.

    >>> _rate(29.97), _rate(25)
    (Fraction(30000, 1001), Fraction(25, 1))
    """
    if isinstance(fps, Fraction):
        return fps
    broadcast = Fraction(round(fps * 1.001) * 1000, 1001)
    if abs(float(broadcast) - fps) < 0.005 and fps != int(fps):
        return broadcast
    return Fraction(fps).limit_denominator(1000)
