"""Raw samples become decoded items: the keys, shapes and dtypes that a training script sees."""

from collections.abc import Callable
from typing import Any

import numpy as np

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.manifest import labels_fit
from clipshards.packer.format.structure import SOUND_SUFFIXES
from clipshards.readers.activitynet import decode_activitynet_item
from clipshards.readers.audio import decode_audio_item
from clipshards.readers.ava import decode_ava_item
from clipshards.readers.clips import Choose, Clip, FrameNumbers
from clipshards.readers.draws import draw_uniform
from clipshards.readers.order import check_seed
from clipshards.readers.rawframes import decode_rawframes_item
from clipshards.readers.skeleton import decode_skeleton_item
from clipshards.readers.split import RawSample, Split, check_opened
from clipshards.readers.video import decode_video_item

Transform = Callable[[Any], dict[str, Any]]
"""Changes an item, in the process that decodes it; what it returns is collated."""

Decode = Callable[[RawSample, int, Choose], dict[str, Any]]
"""Called with a sample, the number of the item in it and the choice of frames; returns the
item. Class ids of the whole item stand under `class_ids`, not yet brought to the split's
label mode."""

DECODERS: dict[str, Decode] = {
    "video": decode_video_item,
    "rawframes": decode_rawframes_item,
    "skeleton": decode_skeleton_item,
    "audio": decode_audio_item,
    "ava": decode_ava_item,
    "activitynet": decode_activitynet_item,
}

_UNREAD = {"audio": SOUND_SUFFIXES}
"""Parts of a task that its items do not have."""


class ItemReader:
    """Reads and decodes items of a split; the same item comes out whoever asks."""

    def __init__(
        self,
        split: Split,
        *,
        clip: Clip | None = None,
        seed: int = 0,
        transform: Transform | None = None,
    ) -> None:
        """Set up reading.

        Args:
            split: An opened split.
            clip: Which frames make up the clip; None for all.
            seed: Of the random choice of frames, in [0, 2**63).
            transform: Called with each item; what it returns stands in the item's place.
        """
        check_opened(split)
        if clip is not None and not isinstance(clip, Clip):
            raise TypeError(f"clip: expected a Clip such as UniformClip, got {clip!r}")
        self.split = split
        self.seed = check_seed(seed)
        self._decode = DECODERS[split.manifest.task]
        self._unread = _UNREAD.get(split.manifest.task, ())
        self._clip = clip
        self._transform = transform

    def read(self, item: int, *, number: int) -> dict[str, Any]:
        """Return one item as it comes up in pass `number`, or what `transform` made of it.

        Raises:
            DecodeError, FormatError, StorageError: The sample cannot be had; the message
                names location, shard, key and part.
        """
        place = self.split.place_of(item)
        raw = self.split.read_sample(place.shard, place.sample, without=self._unread)

        def choose(total_frames: int) -> FrameNumbers:
            if self._clip is None:
                return np.arange(total_frames, dtype=np.int64)
            draws = draw_uniform(self._clip.draws, seed=self.seed, number=number, item=item)
            return self._clip.choose(total_frames, draws)

        decoded = self._decode(raw, place.item, choose)
        if "class_ids" in decoded:
            self._add_labels(decoded, raw)
        return decoded if self._transform is None else self._transform(decoded)

    def _add_labels(self, decoded: dict[str, Any], raw: RawSample) -> None:
        """Put the class ids under the name that the split's label mode has for them."""
        labels = decoded.pop("class_ids")
        mode = self.split.manifest.labels
        if not labels_fit(mode, len(labels)):
            raise FormatError(f"{raw.where}.json: {len(labels)} labels in a split of mode {mode!r}")
        if mode == "one":
            decoded["label"] = int(labels[0])
        elif mode == "many":
            decoded["labels"] = np.array(labels, dtype=np.int64)
