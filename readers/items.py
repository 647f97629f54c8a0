"""Raw samples become decoded items: the keys, shapes and dtypes that a training script sees."""

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from clipshards.packer.format.errors import DatasetError, FormatError, StorageError
from clipshards.packer.format.manifest import LabelMode, labels_fit
from clipshards.packer.format.structure import SOUND_SUFFIXES
from clipshards.readers.accounting import Tally
from clipshards.readers.activitynet import decode_activitynet_item
from clipshards.readers.audio import decode_audio_item
from clipshards.readers.ava import decode_ava_item
from clipshards.readers.clips import Choose, Clip, FrameNumbers, Span, all_frames
from clipshards.readers.draws import draw_substitute, generator_of
from clipshards.readers.fetch import Fetch, RawSample
from clipshards.readers.long_videos import Needed
from clipshards.readers.order import check_seed
from clipshards.readers.rawframes import decode_rawframes_item
from clipshards.readers.shown import Shown, needed_rows, shows_clips
from clipshards.readers.skeleton import decode_skeleton_item
from clipshards.readers.split import Place, Split, check_opened
from clipshards.readers.video import decode_video_item

Transform = Callable[[Any], dict[str, Any]]
"""Changes an item, in the process that decodes it; what it returns is collated."""

OnError = Literal["raise", "replace"]
"""What becomes of an item that cannot be read.

`raise`: the error names location, shard, key and part, and the run ends.
`replace`: another item of its split stands in for it, always the same one for the same seed and
pass; it is counted, and told to the log `clipshards`.
"""

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

_LOG = logging.getLogger("clipshards")
# An item and its substitutes: so many in a row are no accident.
_MOST_TRIES = 10

_UNREAD = {"audio": SOUND_SUFFIXES}
"""Parts of a task that its items do not have."""


class Reading(NamedTuple):
    """Items that are being read."""

    items: Sequence[int]
    numbers: Sequence[int]
    copies: Sequence[int]
    places: dict[int, Place]
    faults: dict[int, DatasetError]
    """Why the place of an item cannot be told."""
    fetch: Fetch
    seconds: float
    """That the planning took."""


class ItemReader:
    """Reads and decodes items of a split; the same item comes out whoever asks."""

    def __init__(
        self,
        split: Split,
        *,
        clip: Clip | None = None,
        seed: int = 0,
        transform: Transform | None = None,
        on_error: OnError = "raise",
        writable: bool = True,
    ) -> None:
        """Set up reading.

        Args:
            split: An opened split.
            clip: Which frames make up the clip; None for all.
            seed: Of the random choice of frames, in [0, 2**63).
            transform: Called with each item; what it returns stands in the item's place.
            on_error: What becomes of an item that cannot be read.
            writable: Whether arrays are the item's own, to be changed; else they may be the
                bytes that were read, or shared among items. Without a transform only.
        """
        check_opened(split)
        # A class has the names of a Clip's members, too.
        if clip is not None and (isinstance(clip, type) or not isinstance(clip, Clip)):
            raise TypeError(f"clip: expected a Clip such as UniformClip, got {clip!r}")
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error {on_error!r}: expected one of {get_args(OnError)}")
        self.split = split
        self.seed = check_seed(seed)
        self._decode = DECODERS[split.manifest.task]
        self._unread = _UNREAD.get(split.manifest.task, ())
        self._clip = clip
        self._transform = transform
        self._writable = writable or transform is not None
        self._replaces = on_error == "replace"

    def read(self, item: int, *, number: int) -> dict[str, Any]:
        """Return one item as it comes up in pass `number`, or what `transform` made of it.

        Raises:
            DecodeError, FormatError, StorageError: The sample cannot be had; the message
                names location, shard, key and part.
        """
        return next(self.finish(self.begin([item], [number]), Tally()))

    def begin(
        self, items: Sequence[int], numbers: Sequence[int], *, copies: Sequence[int] | None = None
    ) -> Reading:
        """Plan the reading of several items, near ones at once; far ones are under way then.

        Args:
            items: Which.
            numbers: The pass in which each comes up.
            copies: Which of its copies in the pass each is, counted from 0: every one has
                random frames of its own. None where items are not repeated.

        Raises:
            CorruptShardError, StorageError: Their places cannot be had.
        """
        started = time.perf_counter()
        places, faults = self._places(items)
        samples = [place[:2] for place in map(places.get, items) if place is not None]
        copies = copies or [0] * len(items)
        needed = self._needed(items, numbers, copies, places)
        fetch = self.split.fetch(samples, without=self._unread, needed=needed)
        # Where indexes have to be read, nearly all of it is for them.
        seconds = time.perf_counter() - started
        return Reading(items, numbers, copies, places, faults, fetch, seconds)

    def _needed(
        self,
        items: Sequence[int],
        numbers: Sequence[int],
        copies: Sequence[int],
        places: Mapping[int, Place],
    ) -> dict[tuple[int, int], Needed]:
        """Return what tells which packets of long videos are needed, of each sample."""
        task = self.split.manifest.task
        if self._clip is None or not shows_clips(task):
            return {}
        shown: dict[tuple[int, int], list[Shown]] = {}
        for item, number, copy in zip(items, numbers, copies, strict=True):
            if item in places:
                place = places[item]
                choose = self._choose(number, item, copy)
                shown.setdefault(place[:2], []).append((place.item, choose))
        return {place: partial(needed_rows, task, clips) for place, clips in shown.items()}

    def finish(self, reading: Reading, tally: Tally) -> Generator[dict[str, Any]]:
        """Yield the items of a reading, in the order in which they were asked for.

        Args:
            reading: By this reader; used up.
            tally: Counts what was read, and in `replaced` the place of each item here that
                another one stands in for.

        Raises:
            DecodeError, FormatError, StorageError: As for `read`; with `on_error="replace"`,
                many items in a row cannot be had.
        """
        tally.storage_s += reading.seconds
        wanted = zip(reading.items, reading.numbers, reading.copies, strict=True)
        try:
            for nth, (item, number, copy) in enumerate(wanted):
                try:
                    if item in reading.faults:
                        raise reading.faults[item]
                    place = reading.places[item]
                    found = self._decoded(reading.fetch, place, item, number, copy)
                except DatasetError as exc:
                    if not self._replaces:
                        raise
                    found = self._substitute(item, number, exc, tally)
                    tally.replaced.append(tally.items + nth)
                yield found if self._transform is None else self._transformed(found)
        finally:
            tally.items += len(reading.items)
            tally.add(reading.fetch)

    def _transformed(self, found: dict[str, Any]) -> dict[str, Any]:
        assert self._transform is not None
        key = found["key"]
        try:
            made: Any = self._transform(found)
            if not isinstance(made, dict):
                raise TypeError(f"transform returned {type(made).__name__}, expected a dict")
        except Exception as exc:
            exc.add_note(f"in transform, given {key} of {self.split!r}")
            raise
        return made

    def _places(self, items: Sequence[int]) -> tuple[dict[int, Place], dict[int, DatasetError]]:
        """Return where items stand, and why that cannot be told where an index is damaged."""
        try:
            return dict(zip(items, self.split.places_of(items), strict=True)), {}
        except DatasetError:
            if not self._replaces:
                raise
        places, faults = {}, {}
        for item in items:
            try:
                places[item] = self.split.place_of(item)
            except DatasetError as exc:
                faults[item] = exc
        return places, faults

    def _substitute(
        self, item: int, number: int, fault: DatasetError, tally: Tally
    ) -> dict[str, Any]:
        """Return the item that stands in for one that cannot be read, the same one each time."""
        tried = [fault]
        while len(tried) < _MOST_TRIES:
            other = draw_substitute(
                len(self.split), seed=self.seed, number=number, item=item, attempt=len(tried)
            )
            try:
                place = self.split.place_of(other)
                fetch = self.split.fetch([place[:2]], without=self._unread)
                found = self._decoded(fetch, place, other, number)
            except DatasetError as exc:
                tried.append(exc)
                continue
            tally.add(fetch)
            _LOG.warning("item %d of %r gives way to item %d: %s", item, self.split, other, fault)
            return found
        raise StorageError(
            f"{len(tried)} items in a row cannot be read, so none is replaced; the first: {fault}; "
            f"the last: {tried[-1]}"
        ) from fault

    def _decoded(
        self, fetch: Fetch, place: Place, item: int, number: int, copy: int = 0
    ) -> dict[str, Any]:
        raw = fetch.sample(place[:2])
        decoded = self._decode(raw, place.item, self._choose(number, item, copy))
        add_labels(decoded, self.split.manifest.labels, where=f"{raw.where}.json")
        if self._writable:
            make_writable(decoded)
        return decoded

    def _choose(self, number: int, item: int, copy: int) -> Choose:
        """Return what chooses the frames of an item."""
        clip = self._clip
        if clip is None:
            return all_frames

        def choose(span: Span) -> FrameNumbers:
            generator = generator_of(seed=self.seed, number=number, item=item, copy=copy)
            try:
                return clip.choose(span, generator)
            except Exception as exc:
                exc.add_note(f"in {clip!r}, given {span} of item {item} of {self.split!r}")
                raise

        return choose


def make_writable(decoded: dict[str, Any]) -> None:
    """Replace arrays that may not be changed, as the bytes that were read, by copies."""
    for name, value in decoded.items():
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            decoded[name] = value.copy()


def add_labels(decoded: dict[str, Any], mode: LabelMode, *, where: str) -> None:
    """Put an item's class ids, if it has any, under the name that the label mode has for them.

    Raises:
        FormatError: There are more or fewer than the mode says.
    """
    labels = decoded.pop("class_ids", None)
    if labels is None:
        return
    if not labels_fit(mode, len(labels)):
        raise FormatError(f"{where}: {len(labels)} labels in a split of mode {mode!r}")
    if mode == "one":
        decoded["label"] = int(labels[0])
    elif mode == "many":
        decoded["labels"] = np.array(labels, dtype=np.int64)
