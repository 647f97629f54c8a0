"""`clipshards demo`: the whole way once, on videos made on the spot."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import click

from clipshards.tools.printing import bytes_text, count_text

_CLASSES = ("disc a", "disc b", "disc c", "disc d")
_VIDEOS = {"train": 24, "val": 8}
_FRAMES = 60
_MARKER = "made-by-clipshards-demo"


@click.command()
@click.option(
    "--out", default="demo-data", show_default=True, metavar="FOLDER", help="Where everything goes."
)
def demo(out: str) -> None:
    """Generate short videos with sound, pack them, verify the shards, stream two epochs."""
    from clipshards.packer import VideoList, pack
    from clipshards.readers import ShardDataset, UniformClip, open_dataset, verify

    folder = Path(out)
    _claim(folder)
    media, shards = folder / "videos", folder / "shards"
    click.echo(f"1. {sum(_VIDEOS.values())} videos of {_FRAMES} frames in {media}")
    lists = {split: _generate(media, split, count) for split, count in _VIDEOS.items()}

    click.echo(f"2. pack into {shards}")
    for split, annotation in lists.items():
        report = pack(
            VideoList(annotation),
            shards,
            split=split,
            media_root=media,
            class_names=_CLASSES,
            shard_size=300_000,
            replan=True,
        )
        click.echo(
            f"   {split}: {report.packed} of {report.entries} videos in "
            f"{count_text(report.shards, 'shard')}, "
            f"{bytes_text(report.bytes)}, {report.seconds:.1f} s, digest "
            f"{report.content_digest[:12]}"
        )

    click.echo("3. verify every byte")
    checked = verify(shards)
    if not checked.whole:
        raise click.ClickException("\n".join(map(str, checked.findings)))
    click.echo(f"   whole: {count_text(checked.shards, 'shard')}, {checked.samples} samples")

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
            clips += len(batch["key"])
            first = first or f"{tuple(batch['frames'].shape)} {batch['frames'].dtype}"
        seconds = time.perf_counter() - started
        click.echo(f"   epoch {epoch}: {clips} clips, {clips / seconds:.0f} a second, {first}")
    command, quoted = _command(), shlex.quote(str(shards))
    click.echo(
        f"""
Now with your own videos:
  {command} pack video train.txt --media-root VIDEOS --out SHARDS --split train
  {command} verify SHARDS
Look at what was made here:
  {command} info {quoted}
  {command} show {quoted} train-00000000"""
    )


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


def _generate(media: Path, split: str, count: int) -> Path:
    """Make the videos of a split and their list; return the list's path."""
    from clipshards.packer.media.synthetic import write_video

    lines = []
    for number in range(count):
        label = number % len(_CLASSES)
        name = f"{split}/{_CLASSES[label].replace(' ', '_')}_{number:02d}.mp4"
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        seed = number + (1000 if split == "val" else 0)
        write_video(media / name, frames=_FRAMES, width=192, height=144, seed=seed)
        lines.append(f"{name} {label}\n")
    annotation = media / f"{split}.txt"
    annotation.write_text("".join(lines), encoding="utf-8")
    return annotation
