"""Raw samples become decoded items: the keys, shapes and dtypes that a training script sees."""

from collections.abc import Callable
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from clipshards.packer.format.errors import DecodeError, FormatError
from clipshards.packer.format.frame_table import check_frame_table
from clipshards.packer.format.manifest import labels_fit
from clipshards.packer.format.tasks import PART_KINDS, VideoJson
from clipshards.packer.format.video import VIDEO_SUFFIXES
from clipshards.readers.clips import Clip
from clipshards.readers.draws import draw_uniform
from clipshards.readers.split import RawSample, Split


class VideoItem(TypedDict):
    """One clip of a video, with what belongs to it."""

    key: str
    """Key of the sample in the data set."""
    id: str
    """The user's own name; for lists, the path as written there."""
    frames: npt.NDArray[np.uint8]
    """RGB, (T, H, W, 3), upright."""
    frame_numbers: npt.NDArray[np.int64]
    """(T,), counted from 0 in the order of display."""
    total_frames: int
    """Frames of the whole video."""
    label: NotRequired[int]
    """Class id, in splits with one label a sample."""
    labels: NotRequired[npt.NDArray[np.int64]]
    """Class ids, (n,), in multi-label splits."""


Transform = Callable[[VideoItem], dict[str, Any]]
"""Changes an item, in the process that decodes it; what it returns is collated."""


class VideoParts(NamedTuple):
    """The parts of one video sample, decoded except for the video itself."""

    about: VideoJson
    table: npt.NDArray[np.int64]
    video: bytes


def open_video_sample(raw: RawSample) -> VideoParts:
    """Return the parts of a sample of task `video`.

    Raises:
        FormatError: A part breaks the format.
    """
    suffix = next(suffix for suffix in VIDEO_SUFFIXES if suffix in raw.parts)
    video = raw.parts[suffix]
    about = PART_KINDS["json"].decode(raw.parts["json"], where=f"{raw.where}.json")
    where = f"{raw.where}.frames.npy"
    table = PART_KINDS["frames.npy"].decode(raw.parts["frames.npy"], where=where)
    return VideoParts(about, check_frame_table(table, part_bytes=len(video), where=where), video)


class ItemReader:
    """Reads and decodes items of a split; the same item comes out whoever asks."""

    def __init__(
        self, split: Split, *, clip: Clip, seed: int = 0, transform: Transform | None = None
    ) -> None:
        """Set up reading.

        Args:
            split: An opened split of task `video`.
            clip: Which frames make up the clip.
            seed: Of the random choice of frames, in [0, 2**63).
            transform: Called with each item; what it returns stands in the item's place.
        """
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed {seed}: expected 0 to 2**63 - 1")
        self.split = split
        self.seed = seed
        self._clip = clip
        self._transform = transform

    def read(self, item: int, *, epoch: int) -> dict[str, Any]:
        """Return one item as it comes up in an epoch: a `VideoItem`, or the transform's result.

        Raises:
            DecodeError, FormatError, StorageError: The sample cannot be had; the message
                names location, shard, key and part.
        """
        place = self.split.place_of(item)
        raw = self.split.read_sample(place.shard, place.sample)
        draws = draw_uniform(self._clip.draws, seed=self.seed, epoch=epoch, item=item)
        decoded = decode_video_item(raw, clip=self._clip, draws=draws)
        mode = self.split.manifest.labels
        if not labels_fit(mode, len(decoded["labels"])):
            raise FormatError(
                f"{raw.where}.json: {len(decoded['labels'])} labels in a split of mode {mode!r}"
            )
        if mode == "one":
            decoded["label"] = int(decoded.pop("labels")[0])
        elif mode == "none":
            del decoded["labels"]
        return {**decoded} if self._transform is None else self._transform(decoded)


def decode_video_item(raw: RawSample, *, clip: Clip, draws: npt.NDArray[np.float64]) -> VideoItem:
    """Return the clip of a raw sample, with `labels` whatever the split's label mode.

    Raises:
        DecodeError: The video does not give the frames.
        FormatError: A part breaks the format.
    """
    # PyAV is loaded with the first item, not with the package.
    from clipshards.packer.frames.decode import decode_frames, look_through

    about, table, video = open_video_sample(raw)
    info = about.video
    try:
        # Packed unopened, a video's length and rotation are known only by decoding it.
        total, rotation = (info.frames, info.rotation) if info.frames >= 0 else look_through(video)
        numbers = clip.choose(total, draws)
        frames = decode_frames(video, numbers, info=info, table=table)
    except DecodeError as exc:
        raise DecodeError(f"{raw.where}: {exc}") from exc
    if rotation % 90 == 0 and rotation % 360:
        frames = np.ascontiguousarray(np.rot90(frames, rotation // 90, axes=(1, 2)))
    return {
        "key": raw.key,
        "id": about.id,
        "frames": frames,
        "frame_numbers": numbers,
        "total_frames": total,
        "labels": np.array(about.labels, dtype=np.int64),
    }
