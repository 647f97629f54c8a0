"""Bare loops over our shards: what reading, checking and decoding cost without a data set."""

import argparse
import base64
import io
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from stream_common import BATCH, SEED, choose_frames, cut_to, data_of

ALONE = 32_000
"""Larger parts are read alone, smaller ones with their neighbours in the sample."""

Parse = Callable[[argparse.Namespace, dict[str, bytes]], dict[str, Any]]
"""Makes values of the parts of a sample, and its `label`."""


class Read(NamedTuple):
    """One pread."""

    file: int
    offset: int
    size: int
    parts: list[tuple[str, int, int, int]]
    """Name, first and last byte behind `offset`, crc32c of each part in it."""


def places(args: argparse.Namespace) -> list[list[list[Read]]]:
    """Return how to read each sample of each batch of an epoch, in our order."""
    from clipshards.readers import open_dataset
    from clipshards.readers.batches import Batches
    from clipshards.readers.epochs import PassEpochs
    from clipshards.readers.order import Order

    root = data_of(args) / "clipshards"
    split = open_dataset(root, split="train")
    samples: list[list[Read]] = []
    for number, shard in enumerate(split.manifest.shards):
        file = os.open(root / "train" / shard.name, os.O_RDONLY)
        parts = split.read_index(number).parts
        columns = [zip(p.offset, p.size, p.crc32c, strict=True) for p in parts.values()]
        for rows in zip(*columns, strict=True):
            reads: list[Read] = []
            for name, (offset, size, crc) in zip(parts, rows, strict=True):
                if not reads or size > ALONE or reads[-1].size > ALONE:
                    reads.append(Read(file, offset, 0, []))
                begin = offset - reads[-1].offset
                reads[-1].parts.append((name, begin, begin + size, crc))
                reads[-1] = reads[-1]._replace(size=begin + size)
            samples.append(reads)
    sizes = [shard.items for shard in split.manifest.shards]
    order = Order(sizes, seed=SEED, run_length=split.manifest.run_length)
    batches = Batches(PassEpochs(order, 1), BATCH[args.case], "pad")
    # Each of these samples is one item.
    steps = range(batches.count or 0)
    return [[samples[item] for item in batches.take(0, step).items] for step in steps]


def read_parts(reads: list[Read]) -> dict[str, bytes]:
    import google_crc32c

    parts = {}
    for file, offset, size, inside in reads:
        data = os.pread(file, size, offset)
        for name, begin, end, crc in inside:
            part = parts[name] = data[begin:end]
            if google_crc32c.extend(0, part) != crc:
                raise ValueError(name)
    return parts


def bare_raw(args: argparse.Namespace) -> Iterator[int]:
    batches = places(args)
    while True:
        for batch in batches:
            for sample in batch:
                read_parts(sample)
            yield len(batch)


def bare_loop(parse: Parse, args: argparse.Namespace) -> Iterator[int]:
    import torch

    batches = places(args)
    decode = BareVideo(args).decode if args.case == "video" else dict
    while True:
        for batch in batches:
            items = [decode(parse(args, read_parts(sample))) for sample in batch]
            made = {"label": torch.tensor([item["label"] for item in items])}
            for name, array in items[0].items():
                if isinstance(array, np.ndarray):
                    stacked = np.empty((len(items), *array.shape), array.dtype)
                    for row, item in zip(stacked, items, strict=True):
                        row[...] = item[name]
                    made[name] = torch.from_numpy(stacked)
            yield len(made["label"])


def parse_checked(args: argparse.Namespace, parts: dict[str, bytes]) -> dict[str, Any]:
    from clipshards.packer.format.tasks import TASKS

    task = "audio" if args.case == "mel" else args.case
    values = TASKS[task].decode_all(parts, where="")
    return {**values, "label": values["json"].labels[0]}


def parse_plainly(args: argparse.Namespace, parts: dict[str, bytes]) -> dict[str, Any]:
    return _parsed(args, parts, lambda part: np.load(io.BytesIO(part)))


def parse_known(args: argparse.Namespace, parts: dict[str, bytes]) -> dict[str, Any]:
    return _parsed(args, parts, _known_npy)


def _parsed(
    args: argparse.Namespace, parts: dict[str, bytes], read_npy: Callable[[bytes], Any]
) -> dict[str, Any]:
    values: dict[str, Any] = dict(parts)
    for name, part in parts.items():
        if name.endswith("npy"):
            values[name] = read_npy(part)
    about = json.loads(parts["json"])
    if args.case == "video":
        values["json"] = about
    return {**values, "label": about["labels"][0]}


_headers: dict[bytes, tuple[np.dtype[Any], tuple[int, ...]]] = {}


def _known_npy(part: bytes) -> Any:
    end = 10 + part[8] + 256 * part[9]
    header = part[:end]
    if header not in _headers:
        file = io.BytesIO(header)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        _headers[header] = dtype, shape
    dtype, shape = _headers[header]
    return np.frombuffer(part, dtype, offset=end).reshape(shape)


class BareVideo:
    """Decodes clips by the frame table, the contexts kept from one video to the next."""

    def __init__(self, args: argparse.Namespace) -> None:
        from av.video.reformatter import VideoReformatter

        self.args = args
        self.contexts: dict[str, Any] = {}
        self.converter = VideoReformatter()

    def decode(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the clip of a sample and its label."""
        import av

        about, table = values["json"], values["frames.npy"]
        info = about["video"] if isinstance(about, dict) else about.video.to_json()
        offset, size, flags, rank = table[:, :4].T
        wanted = choose_frames(self.args, info["frames"])
        packet_of = np.empty(info["frames"], np.int64)
        packet_of[rank[rank >= 0]] = np.flatnonzero(rank >= 0)
        packets = packet_of[wanted]
        # The packet that decoding begins with, for each one wanted.
        points = np.flatnonzero(flags & 1)
        begins = points[np.searchsorted(rank[points], wanted, side="right") - 1]
        context = self.contexts.get(info["extradata"]) or self.open_context(info)
        self.contexts[info["extradata"]] = context
        data = values["mp4"]
        found: dict[int, Any] = {}
        for begin in np.unique(begins).tolist():
            mine = set(packets[begins == begin].tolist())
            context.reorder_depth = info["reorder_depth"]
            needed = range(begin, max(mine) + 1)
            feed = [number for number in needed if number in mine or not flags[number] & 2]
            for number in [*feed, None]:
                packet = None
                if number is not None:
                    packet = av.Packet(data[offset[number] : offset[number] + size[number]])
                    packet.pts = number
                for frame in context.decode(packet):
                    if frame.pts in mine:
                        rgb = self.converter.reformat(frame, format="rgb24", threads=1)
                        found[frame.pts] = rgb.to_ndarray()
            context.flush_buffers()
        frames = np.stack([found[packet] for packet in packets.tolist()])
        return {"frames": cut_to(frames, self.args.size), "label": values["label"]}

    def open_context(self, info: dict[str, Any]) -> Any:
        """Return a decoder for videos of this kind."""
        from av.codec.context import CodecContext

        context: Any = CodecContext.create(info["codec"], "r")
        context.thread_count = 1
        context.extradata = base64.b64decode(info["extradata"])
        context.width, context.height = info["coded_width"], info["coded_height"]
        context.open()
        return context
