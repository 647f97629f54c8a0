"""The smallest splits of every task: a few shards of some kilobytes, their media to be decoded."""

import io
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import makers
import numpy as np
import pack_inputs
from PIL import Image

from clipshards.packer import (
    ActivityNetRecord,
    AudioRecord,
    AvaCsv,
    FrameRange,
    RawframesRecord,
    VideoRecord,
    pack,
)
from clipshards.packer.format.checksums import sha256_hex
from clipshards.packer.format.index import ShardIndex
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.manifest import Accounting, Manifest
from clipshards.packer.format.names import MANIFEST_NAME, REJECTS_NAME, sample_key, shard_name
from clipshards.packer.media.keep_sound import keep_sound
from clipshards.packer.samples.base import make_sample
from clipshards.packer.shards import ShardWriter

SPLIT = "t"

# Without the options of x264 in its bytes, a video of three frames is of 2 kB.
_PLAIN = {"g": "2", "bf": "0"}


@dataclass(frozen=True)
class TinySplit:
    """A split, in memory."""

    task: str
    files: Mapping[str, bytes] = field(repr=False)
    """Name in the split's folder to bytes."""

    def write(self, location: Path) -> Path:
        """Write it below a location; return the split's folder."""
        folder = location / SPLIT
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder

    @property
    def shards(self) -> list[str]:
        """File names of its shards."""
        return sorted(name for name in self.files if name.endswith(".tar"))


def _video(path: Path, seed: int, *, frames: int = 3) -> None:
    data = makers.video_bytes(
        codec="mpeg4", frames=frames, size=(32, 32), seed=seed, options=_PLAIN
    )
    path.write_bytes(data)


def _videos(folder: Path, seeds: Sequence[int]) -> list[Any]:
    for seed in seeds:
        _video(folder / f"{seed}.mp4", seed)
    # The last one cannot be packed.
    return [VideoRecord(f"{seed}.mp4", (seed % 3,)) for seed in (*seeds, 10**9)]


def _rawframes(folder: Path, seeds: Sequence[int]) -> list[Any]:
    records = []
    for seed in seeds:
        (folder / f"f{seed}").mkdir()
        for place, picture in enumerate(makers.pictures(3, (16, 16), seed=seed)):
            Image.fromarray(picture).save(folder / f"f{seed}" / f"img_{place + 1:05}.jpg")
        whole = FrameRange(total_frames=3, labels=(seed % 3,))
        rest = FrameRange(total_frames=2, labels=(1,), offset=1)
        ranges = (whole, rest) if seed % 2 else (whole,)
        records.append(RawframesRecord(folder=f"f{seed}", ranges=ranges))
    return records


def _skeletons(folder: Path, seeds: Sequence[int]) -> list[Any]:
    return pack_inputs.skeletons(len(seeds) + seeds[0], shape=(3, 5, 2))[seeds[0] :]


def _features(folder: Path, seeds: Sequence[int]) -> list[Any]:
    for seed in seeds:
        rows = np.random.default_rng(seed).random((4, 20)).astype(np.float32)
        np.save(folder / f"{seed}.npy", rows)
    return [AudioRecord(path=f"{seed}.npy", total_frames=9, labels=(seed % 3,)) for seed in seeds]


def _moments(folder: Path, seeds: Sequence[int]) -> AvaCsv:
    rows = []
    for seed in seeds:
        _video(folder / f"{seed}.mp4", seed, frames=5)
        rows.append(f"{seed}.mp4,2,0.1,0.1,0.5,0.5,{1 + seed % 3},0\n")
    file = folder / "a.csv"
    file.write_text("".join(rows))
    return AvaCsv(file, fps=1, timestamp_start=0, timestamp_end=None, clip_frames=4)


def _untrimmed(folder: Path, seeds: Sequence[int]) -> list[Any]:
    records = []
    for seed in seeds:
        rows = np.random.default_rng(seed).random((4, 5)).astype(np.float32)
        np.savetxt(folder / f"{seed}.csv", rows, delimiter=",")
        _video(folder / f"{seed}.mp4", seed)
        records.append(
            ActivityNetRecord(
                id=f"v{seed}",
                duration_s=10.0,
                segments=((0.0, 1.0 + seed),),
                segment_labels=("jump",),
                features=f"{seed}.csv",
                video=f"{seed}.mp4",
            )
        )
    return records


# Task -> records of media in a folder, by seeds; bytes of a shard; options of packing.
_TASKS: dict[str, tuple[Callable[[Path, Sequence[int]], Any], int, dict[str, Any]]] = {
    "video": (_videos, 38_000, {}),
    "rawframes": (_rawframes, 33_000, {}),
    "skeleton": (_skeletons, 9_000, {}),
    "audio": (_features, 5_500, {}),
    "ava": (_moments, 17_500, {}),
    "activitynet": (_untrimmed, 32_000, {"labels": "none"}),
}

TINY = (*_TASKS, "sound")


@cache
def tiny_split(task: str, *, first: int = 0, order: int = 0) -> TinySplit:
    """Return the split of a task: three shards, of two samples or one.

    Args:
        task: One of `TINY`; `sound` is audio with the sound kept.
        first: Seed of the first of its media: with another one, all media are others.
        order: Seed of the order in the shards.
    """
    seeds = range(first, first + 5)
    if task == "sound":
        return TinySplit(task, _sounds(seeds, order))
    records, shard_size, options = _TASKS[task]
    with tempfile.TemporaryDirectory() as folder:
        media, location = Path(folder) / "media", Path(folder) / "set"
        media.mkdir()
        pack(
            records(media, seeds),
            location,
            split=SPLIT,
            media_root=media,
            shard_size=shard_size,
            seed=order,
            max_rejects=1,
            **options,
        )
        files = {path.name: path.read_bytes() for path in sorted((location / SPLIT).iterdir())}
    return TinySplit(task, files)


def _sounds(seeds: Sequence[int], order: int) -> dict[str, bytes]:
    """Return the files of sounds kept as flac, their features made up: librosa takes seconds."""
    samples = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        levels = np.cumsum(rng.integers(-900, 900, (400, 1), dtype=np.int16), axis=0)
        wav = io.BytesIO()
        with wave.open(wav, "wb") as file:
            file.setparams((1, 2, 16_000, 400, "NONE", ""))
            file.writeframes(levels.astype("<i2").tobytes())
        kept = keep_sound(wav.getvalue(), "flac")
        about = AudioJson(
            id=f"{seed}.wav",
            origin=f"list.txt:{seed + 1}",
            labels=(seed % 3,),
            total_frames=3,
            codec=kept.codec,
            sample_rate_hz=kept.sample_rate_hz,
            channels=kept.channels,
            duration_s=kept.duration_s,
        )
        mel = rng.random((3, 80)).astype(np.float32)
        samples.append(
            (seed - seeds[0], make_sample("audio", about, {"mel.npy": mel, kept.part: kept.data}))
        )
    samples = samples[order:] + samples[:order]
    files, entries, plan = {REJECTS_NAME: b""}, [], f"{order + 1000 * seeds[0]:064x}"
    for number, some in enumerate((samples[:2], samples[2:4], samples[4:])):
        pieces: list[bytes] = []
        writer = ShardWriter(pieces.append, ShardIndex("audio", SPLIT, number, plan, {}))
        for ordinal, sample in some:
            writer.add(sample_key(SPLIT, ordinal), sample, entries=1)
        entries.append(writer.finish(records=len(some)))
        files[shard_name(SPLIT, number)] = b"".join(pieces)
    manifest = Manifest(
        task="audio",
        split=SPLIT,
        labels="one",
        class_names=(),
        recipe={},
        run_length=1,
        request_digest="0" * 64,
        plan_digest=plan,
        accounting=Accounting(5, 5, 0, {}),
        rejects_sha256=sha256_hex(b""),
        made_with={},
        shards=tuple(entries),
    )
    return files | {MANIFEST_NAME: manifest.encode()}
