"""`clipshards demo`: the whole way once, on data made on the spot."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from clipshards.tools.printing import bytes_text, count_text

_VIDEOS = {"train": 24, "val": 8}
_MARKER = "made-by-clipshards-demo"


class _Split(NamedTuple):
    """One split to pack, and how a user packs its like."""

    name: str
    command: str
    records: Any
    media_root: Path
    class_names: tuple[str, ...] | None


@click.command()
@click.option(
    "--out", default="demo-data", show_default=True, metavar="FOLDER", help="Where everything goes."
)
def demo(out: str) -> None:
    """Generate a small data set in every format, pack it, verify it, stream two epochs."""
    from clipshards.packer import pack
    from clipshards.readers import ShardDataset, UniformClip, open_dataset, verify

    folder = Path(out)
    _claim(folder)
    shards = folder / "shards"
    click.echo(f"1. generate into {folder} and pack into {shards}")
    splits = []
    for split in _generate(folder):
        splits.append(split)
        report = pack(
            split.records,
            shards,
            split=split.name,
            media_root=split.media_root,
            class_names=split.class_names,
            shard_size=300_000,
            replan=True,
        )
        click.echo(
            f"   {split.name:<11} {report.packed:>3} of {report.entries} entries in "
            f"{count_text(report.shards, 'shard')}, {bytes_text(report.bytes)}, "
            f"{report.seconds:.1f} s, digest {report.content_digest[:12]}"
        )

    click.echo("2. verify every byte")
    checked = verify(shards)
    if not checked.whole:
        raise click.ClickException(
            "\n".join(f"{finding.place}: {finding.message}" for finding in checked.findings)
        )
    click.echo(f"   whole: {count_text(checked.shards, 'shard')}, {checked.samples} samples")

    click.echo("3. one batch of each split")
    for split in splits:
        dataset = ShardDataset(
            open_dataset(shards, split=split.name), batch_size=4, clip=UniformClip(8)
        )
        batch = dataset.read_batch(0, 0)
        shapes = ", ".join(
            f"{name} {tuple(value.shape)}"
            for name, value in batch.items()
            if name in ("frames", "keypoint", "audios", "feature", "label")
        )
        click.echo(f"   {split.name:<11} {shapes}")

    click.echo("4. stream train, 8 frames a video, batches of 6, 2 worker processes")
    train = open_dataset(shards, split="train")
    dataset = ShardDataset(train, batch_size=6, clip=UniformClip(8), seed=0)
    loader = dataset.loader(workers=2)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        started = time.perf_counter()
        clips = 0
        first = ""
        for batch in loader:
            clips += int(batch["valid"].sum())
            first = first or f"{tuple(batch['frames'].shape)} {batch['frames'].dtype}"
        seconds = time.perf_counter() - started
        click.echo(f"   epoch {epoch}: {clips} clips, {clips / seconds:.0f} a second, {first}")
    command, quoted = _command(), shlex.quote(str(shards))
    click.echo("\nNow with your own data, each with --out SHARDS --split NAME:")
    for split in splits:
        if split.name != "val":
            click.echo(f"  {command} pack {split.command}")
    click.echo(
        f"""Look at what was made here:
  {command} info {quoted}
  {command} show {quoted} train-00000000"""
    )


def _generate(folder: Path) -> Iterator[_Split]:
    """Make the data of one split after the other."""
    from clipshards.packer import (
        ActivityNetFile,
        AudioList,
        AvaCsv,
        RawframeList,
        SkeletonFile,
        VideoList,
    )
    from clipshards.packer.media import demo_data as data

    videos = folder / "videos"
    for name, count in _VIDEOS.items():
        listed = VideoList(data.make_videos(videos, name, count))
        yield _Split(name, "video train.txt --media-root VIDEOS", listed, videos, data.CLASSES)
    names = sorted(str(path.relative_to(videos)) for path in videos.glob("val/*.mp4"))
    root = folder / "rawframes"
    frames = RawframeList(data.make_rawframes(root, 6))
    command = "rawframes rawframes.txt --media-root FRAMES"
    yield _Split("rawframes", command, frames, root, data.CLASSES)
    skeletons = SkeletonFile(data.make_skeletons(folder / "skeletons", 12))
    command = "skeleton skeletons.pkl --source-split train"
    yield _Split("skeleton", command, skeletons, folder, data.CLASSES)
    root = folder / "audio_features"
    features = AudioList(data.make_audio_features(root, videos, names))
    command = "audio audio.txt --media-root FEATURES"
    yield _Split("audio", command, features, root, data.CLASSES)
    annotation, proposals = data.make_ava(folder / "ava", names)
    ava = AvaCsv(annotation, proposals=proposals, timestamp_start=0, timestamp_end=10)
    command = "ava ava.csv --proposals ava.pkl --media-root VIDEOS"
    yield _Split("ava", command, ava, videos, None)
    root = folder / "activitynet"
    untrimmed = ActivityNetFile(data.make_activitynet(root, 6))
    command = "activitynet activitynet.json --media-root FEATURES"
    yield _Split("activitynet", command, untrimmed, root, None)


def _claim(folder: Path) -> None:
    """Make the folder the demo's, unless it holds what no demo has made.

    Raises:
        click.UsageError: It does, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARKER).is_file():
            raise click.UsageError(
                f"{folder} holds files that no demo made; choose another --out, a new folder"
            )
        (folder / _MARKER).touch()
    except OSError as exc:
        raise click.UsageError(f"{folder}: {exc.strerror}; choose another --out") from exc


def _command() -> str:
    """Return what the user must type to get this program."""
    if shutil.which("clipshards"):
        return "clipshards"
    return os.path.relpath(sys.argv[0])
