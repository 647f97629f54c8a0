"""WebDataset tars that others have made, without a manifest: streamed and decoded as ours are.

    import webdataset as wds
    from clipshards.readers.foreign_tars import ForeignItems

    pipeline = wds.DataPipeline(ForeignItems("videos-{000..041}.tar"), wds.batched(8))

webdataset lists, divides, opens and shuffles the tars; `strict_tar` reads them.
"""

import hashlib
import io
import json
import math
import operator
import os
import random
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from torch.utils.data import IterableDataset

from clipshards.packer.format.errors import FormatError
from clipshards.packer.format.frame_table import empty_frame_table
from clipshards.packer.format.manifest import LabelMode
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES, VideoInfo
from clipshards.readers.clips import Choose, Clip, FrameNumbers, Span
from clipshards.readers.cursor import WithEpochs
from clipshards.readers.draws import generator_of
from clipshards.readers.fetch import RawSample
from clipshards.readers.items import DECODERS, add_labels, make_writable
from clipshards.readers.order import check_seed
from clipshards.readers.strict_tar import ForeignTarsWarning as ForeignTarsWarning
from clipshards.readers.strict_tar import read_tar
from clipshards.readers.video import decode_clip

# Errors of NumPy's and Python's parsers for text that is no header of an array.
_NO_HEADER = (
    *(ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError),
    *(IndexError, KeyError, AttributeError, OverflowError),
)


class ForeignItems(WithEpochs, IterableDataset[dict[str, Any]]):
    """Decoded items of WebDataset tars without a manifest; the first stage of a pipeline.

    An item has `key`, `__key__` and `__url__`, and of each part: of a video `mp4`, `mkv`, `mov`,
    `avi` or `webm` the keys `frames`, `frame_numbers` and `total_frames`, as in `VideoItem`;
    of `cls` the int `label`; under their own names an array of `npy`, the object of `json`, the
    text of `txt`, and the bytes of anything else. Nothing is ever unpickled.
    Samples of shards that clipshards made come out as `ShardDataset` gives their items.

    An iteration is one epoch: the same one until another is set. What cannot be read raises
    `FormatError`, `DecodeError` or `StorageError`, which name url, key and part.
    """

    def __init__(
        self,
        urls: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        clip: Clip | None = None,
        seed: int = 0,
        shuffle: int = 100,
        labels: LabelMode = "one",
    ) -> None:
        """Set up the stream.

        Args:
            urls: Paths, or whatever webdataset opens; braces of a single text are expanded
                (`x-{00..11}.tar`). A url `pipe:...` runs a command: take urls from nobody whom
                you would not let do that.
            clip: Which frames make up an item's clip; None for all.
            seed: Of the order and of the random choice of frames, in [0, 2**63).
            shuffle: Samples, undecoded, in the buffer that the next one is drawn from; the tars
                are shuffled too. 0 for the order of the tars.
            labels: Of shards that clipshards made: which labels their samples have, `one` each,
                `many`, or `none`.

        Raises:
            ValueError, TypeError: An argument is out of range, or of another type.

        Warns:
            ForeignTarsWarning: Always: what is missing without a manifest.
        """
        import webdataset as wds

        super().__init__()
        if clip is not None and not isinstance(clip, Clip):
            raise TypeError(f"clip: expected a Clip such as UniformClip, got {clip!r}")
        if operator.index(shuffle) < 0:
            raise ValueError(f"shuffle {shuffle}: expected at least 0 samples")
        if labels not in get_args(LabelMode):
            raise ValueError(f"labels {labels!r}: expected one of {get_args(LabelMode)}")
        self.urls: list[str]
        if isinstance(urls, str):
            self.urls = wds.shardlists.expand_urls(urls)
        else:
            given = [urls] if isinstance(urls, os.PathLike) else urls
            self.urls = [os.fspath(url) for url in given]
        if not self.urls:
            raise ValueError("expected the url of a tar at least")
        self._clip = clip
        self._seed = check_seed(seed)
        self._shuffle = operator.index(shuffle)
        self._labels = labels
        order = f"as good as a shuffle buffer of {shuffle} samples" if shuffle else "the tars' own"
        warnings.warn(
            "tars without a manifest: no checksum tells whether the bytes are those that were "
            f"written; the order is only {order}; a run cannot go on in the middle of an epoch; "
            "ranks and workers get whole tars, so unequal numbers of items, and nothing proves "
            "that together they get each item once; there is no len(). Shards of clipshards have "
            "all of it",
            ForeignTarsWarning,
            stacklevel=2,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the items of the tars that belong to this rank and loader worker."""
        return self._iterate(self._cursor.start()[0])

    def _iterate(self, epoch: int) -> Iterator[dict[str, Any]]:
        import webdataset as wds

        urls = wds.split_by_worker(wds.split_by_node(iter(self.urls)))
        if self._shuffle:
            shards = len(self.urls)
            urls = wds.shuffle(shards, initial=shards, rng=self._generator(epoch, "tars"))(urls)
        found: Iterator[RawSample] = (sample for url in urls for sample in read_tar(url))
        if self._shuffle:
            rng = self._generator(epoch, "samples")
            found = wds.shuffle(self._shuffle, initial=self._shuffle, rng=rng)(found)
        for raw in found:
            yield from self._decoded(raw, epoch)

    def _generator(self, epoch: int, what: str) -> random.Random:
        return random.Random(f"{what} of epoch {epoch}, seed {self._seed}")

    def _decoded(self, raw: RawSample, epoch: int) -> Iterator[dict[str, Any]]:
        """Yield the items of a sample."""
        url = raw.where.removesuffix(f": {raw.key}")
        ours = _task_of(raw)
        for item in range(1 if ours is None else ours.items):
            choose = self._choice(f"{raw.where} {item}", epoch)
            if ours is None:
                decoded = decode_foreign(raw, choose)
            else:
                decoded = DECODERS[ours.task](raw, item, choose)
                try:
                    add_labels(decoded, self._labels, where=f"{raw.where}.json")
                except FormatError as exc:
                    raise FormatError(f"{exc}; give labels= as the split has them") from None
                make_writable(decoded)
            yield {"__key__": raw.key, "__url__": url, **decoded}

    def _choice(self, where: str, epoch: int) -> Choose:
        def choose(span: Span) -> FrameNumbers:
            if self._clip is None:
                return np.arange(span.total_frames, dtype=np.int64)
            # Foreign items have no number.
            item = int.from_bytes(hashlib.sha256(where.encode()).digest()[:8], "little")
            generator = generator_of(seed=self._seed, number=epoch, item=item)
            return self._clip.choose(span, generator)

        return choose


class _Ours(NamedTuple):
    task: str
    items: int


def _task_of(raw: RawSample) -> _Ours | None:
    """Return the task of a sample that clipshards made, known by its `json`; else None."""
    if "json" not in raw.parts:
        return None
    there = set(raw.parts)
    for task in TASKS.values():
        if set(task.required) <= there <= set(task.parts):
            try:
                about = task.about.decode(raw.parts["json"], where=raw.where)
            except FormatError:
                continue
            return _Ours(task.name, about.items)
    return None


def decode_foreign(raw: RawSample, choose: Choose) -> dict[str, Any]:
    """Return the parts of a foreign sample, decoded by their names.

    Raises:
        DecodeError: The video does not give the frames.
        FormatError: A part is not what its name says.
    """
    item: dict[str, Any] = {"key": raw.key}
    video = next((suffix for suffix in VIDEO_SUFFIXES if suffix in raw.parts), None)
    for part, data in raw.parts.items():
        where = f"{raw.where}.{part}"
        if part == video:
            # As a video that was packed unopened: no frame table, nothing known.
            item |= decode_clip(data, VideoInfo(), empty_frame_table(), choose, where=where)
        elif part == "cls":
            item["label"] = _decoded(int, data, where, "a whole number")
        else:
            item[part] = _decode_part(part.rpartition(".")[2], data, where)
    return item


def _decode_part(suffix: str, data: bytes, where: str) -> Any:
    match suffix:
        case "npy":
            return decode_any_npy(data, where=where)
        case "json":
            return _decoded(json.loads, data, where, "JSON")
        case "txt":
            return _decoded(bytes.decode, data, where, "text in UTF-8")
        case _:
            return data


def _decoded(decode: Callable[[bytes], Any], data: bytes, where: str, what: str) -> Any:
    try:
        return decode(data)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{where}: expected {what}, got {data[:40]!r}") from exc


def decode_any_npy(data: bytes, *, where: str) -> npt.NDArray[Any]:
    """Return the array of an npy file of NumPy's making, writable; never a pickled one.

    Raises:
        FormatError: It is none, holds objects, or has more or fewer bytes than its shape needs.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = header
    except _NO_HEADER as exc:
        raise FormatError(f"{where}: expected an npy array: {exc}") from exc
    begin = stream.tell()
    # Looked at before any memory is taken for it.
    needed = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or needed != len(data) - begin or min(shape, default=0) < 0:
        what = "holds Python objects" if dtype.hasobject else f"needs {needed} bytes"
        raise FormatError(
            f"{where}: an array of {dtype} and shape {shape} {what}, got {len(data) - begin} bytes"
        )
    try:
        flat = np.ndarray(shape, dtype, data, begin, order="F" if fortran else "C")
        # Of text without characters, the copy is made of some.
        return flat.copy(order="K")
    except (ValueError, TypeError, OverflowError) as exc:
        raise FormatError(f"{where}: shape {shape} of {dtype}: {exc}") from exc
