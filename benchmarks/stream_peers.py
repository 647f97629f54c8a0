"""The peers' readers over their own layouts, and MMAction2's over raw files."""

import argparse
import importlib
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import stream_data
from stream_common import (
    BATCH,
    SEED,
    Pixels,
    choose_frames,
    cut_to,
    data_of,
    forever,
    in_batches,
)

SHUFFLED = {"skeleton": 1_000, "mel": 100, "video": 50}
"""Samples in webdataset's shuffle buffer."""


class Item:
    """Makes what goes into a batch from what the peers stored."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args

    def __call__(self, stored: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """Return the item of a stored sample."""
        if self.args.case != "video":
            return {**stored, "label": int(stored["label"])}
        frames = decode_by_seeking(stored["video"], partial(choose_frames, self.args))
        return {"frames": cut_to(frames, self.args.size), "label": int(stored["label"])}


def decode_by_seeking(data: bytes, choose: Callable[[int], list[int]]) -> Pixels:
    """Decode a clip by PyAV's own demuxer."""
    import av
    from av.video.reformatter import VideoReformatter

    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        number_of = {time: number for number, time in enumerate(times)}
        keys = sorted(number_of[p.pts] for p in packets if p.is_keyframe and p.pts is not None)
        wanted = choose(len(times))
        converter, at = VideoReformatter(), -1
        frames: Iterator[Any] = iter(())
        found: dict[int, Any] = {}
        for number in sorted(set(wanted)):
            key = max(key for key in keys if key <= number)
            if at < 0 or key > at:
                container.seek(times[key], stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                at = number_of[frame.pts]
                if at >= number:
                    rgb = converter.reformat(frame, format="rgb24", threads=1)
                    found[number] = rgb.to_ndarray()
                    break
    return np.stack([found[number] for number in wanted])


def collate(items: list[dict[str, Any]]) -> Any:
    import warnings

    from torch.utils.data import default_collate

    warnings.filterwarnings("ignore", message=".*not writable.*")
    return default_collate(items)


def webdataset(args: argparse.Namespace) -> Iterator[int]:
    import webdataset as wds

    item, buffer = Item(args), SHUFFLED[args.case]

    def decode(sample: dict[str, bytes]) -> dict[str, Any]:
        if args.case == "skeleton":
            return item(pickle.loads(sample["pyd"]))
        if args.case == "mel":
            return item({"mel": np.load(io.BytesIO(sample["npy"])), "label": sample["cls"]})
        return item({"video": sample["mp4"], "label": sample["cls"]})

    source = _tars(data_of(args) / "webdataset").shuffle(buffer, initial=buffer // 2).map(decode)
    batches = source.batched(BATCH[args.case], collation_fn=collate)
    kept = {"persistent_workers": True} if args.workers else {}
    return forever(wds.WebLoader(batches, batch_size=None, num_workers=args.workers, **kept))


def webdataset_raw(args: argparse.Namespace, folder: str = "webdataset") -> Iterator[int]:
    buffer = SHUFFLED[args.case]
    source = _tars(data_of(args) / folder).shuffle(buffer, initial=buffer // 2)
    while True:
        yield from in_batches(args, source)


def webdataset_raw_ours(args: argparse.Namespace) -> Iterator[int]:
    return webdataset_raw(args, "clipshards/train")


def _tars(folder: Path) -> Any:
    import webdataset as wds

    tars = sorted(str(path) for path in folder.glob("*.tar"))
    return wds.WebDataset(
        tars, shardshuffle=100, seed=SEED, nodesplitter=wds.split_by_node, empty_check=False
    )


def mosaicml(args: argparse.Namespace) -> Iterator[int]:
    from peers import STREAMING
    from torch.utils.data import DataLoader

    importlib.import_module("streaming.base.util").clean_stale_shared_memory()
    item, size = Item(args), BATCH[args.case]

    class Samples(STREAMING.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Any:
            return item(super().__getitem__(at))

    dataset = Samples(
        local=str(data_of(args) / "mds"), shuffle=True, batch_size=size, num_canonical_nodes=1
    )
    return forever(
        DataLoader(
            dataset,
            batch_size=size,
            num_workers=args.workers,
            collate_fn=collate,
            persistent_workers=args.workers > 0,
        )
    )


def litdata(args: argparse.Namespace) -> Iterator[int]:
    from peers import LITDATA

    # By default it decodes up to 47 times too much of large samples when shuffling.
    dataset = LITDATA.StreamingDataset(
        str(data_of(args) / "litdata" / "chunks"),
        shuffle=True,
        seed=SEED,
        transform=Item(args),
        batch_decode=False,
    )
    return forever(
        LITDATA.StreamingDataLoader(
            dataset,
            batch_size=BATCH[args.case],
            num_workers=args.workers,
            collate_fn=collate,
            persistent_workers=args.workers > 0,
        )
    )


class PickledList:
    """A list of dicts as mmengine's BaseDataset keeps it: each pickled, in one array."""

    def __init__(self, values: Sequence[dict[str, Any]]) -> None:
        pickled = [np.frombuffer(pickle.dumps(value, protocol=4), np.uint8) for value in values]
        self.ends = np.cumsum([len(value) for value in pickled])
        self.data = np.concatenate(pickled)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, at: int) -> dict[str, Any]:
        begin = self.ends[at - 1] if at else 0
        value: dict[str, Any] = pickle.loads(self.data[begin : self.ends[at]].data)
        return value


class RawFiles:
    """What MMAction2's data sets give of an annotation, from files one by one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        raw = data_of(args) / "raw"
        if args.case == "skeleton":
            annotations = pickle.loads((raw / "skeleton.pkl").read_bytes())["annotations"]
        else:
            files = stream_data.listed(raw)
            annotations = [{"filename": str(path), "label": label} for path, label in files]
        self.samples = PickledList(annotations)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> dict[str, Any]:
        about = self.samples[at]
        label = {"label": about["label"]}
        if self.args.case == "skeleton":
            return {"keypoint": about["keypoint"], "score": about["keypoint_score"], **label}
        if self.args.case == "mel":
            return {"mel": np.load(about["filename"]), **label}
        decord = importlib.import_module("decord")
        video = decord.VideoReader(io.BytesIO(Path(about["filename"]).read_bytes()), num_threads=1)
        unique, inverse = np.unique(choose_frames(self.args, len(video)), return_inverse=True)
        frames = list(video.get_batch(unique).asnumpy())
        return {"frames": cut_to(np.stack([frames[n] for n in inverse]), self.args.size), **label}


def mmaction2(args: argparse.Namespace) -> Iterator[int]:
    from torch.utils.data import DataLoader

    return forever(
        DataLoader(
            RawFiles(args),  # type: ignore[arg-type]
            batch_size=BATCH[args.case],
            shuffle=True,
            num_workers=args.workers,
            collate_fn=collate,
            persistent_workers=args.workers > 0,
        )
    )
