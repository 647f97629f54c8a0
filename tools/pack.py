"""`clipshards pack`: an annotation and its media become shards, one command a format."""

from pathlib import Path
from typing import Any, Unpack

import click

from clipshards.tools.pack_options import (
    Common,
    annotation_file,
    common_options,
    insist,
    label_mode,
    label_options,
    video_options,
    video_recipe,
)
from clipshards.tools.pack_run import run_pack


class Formats(click.Group):
    """A group with a command for each annotation format."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name all formats where none is called so."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"No such format {args[0]!r}. There are: {', '.join(self.commands)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=Formats)
def pack() -> None:
    """Pack an annotation and its media into shards.

    A run that was killed goes on when the same command is given again (--replan starts
    over). Entries that cannot be packed are listed with file, line and reason, here and
    in rejects.jsonl; the exit code is then 1.
    """


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options()
@label_options
@click.option("--delimiter", default=" ", help="Between two fields, once.  [default: one space]")
@video_options
def video(
    annotation: Path,
    multi_label: bool,
    unlabelled: bool,
    delimiter: str,
    **options: Any,
) -> None:
    """Pack a video list, `path label [label ...]` a line."""
    from clipshards.packer.annotations.video_list import VideoList

    recipe, common = video_recipe(options)
    labels = label_mode(multi_label, unlabelled)
    records = VideoList(annotation, labels=labels, delimiter=delimiter.replace("\\t", "\t"))
    run_pack(records, common, labels=labels, recipe=recipe)


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options(media=False)
@label_options
@click.option("--source-split", help="Split of the annotation to pack, as xsub_train.")
@click.option(
    "--valid-ratio",
    type=click.FloatRange(min=0, max=1),
    default=0.0,
    help="Leave out videos in which fewer frames than this share have a box of --box-thr.",
)
@click.option(
    "--box-thr",
    type=click.Choice(["0.5", "0.6", "0.7", "0.8", "0.9"]),
    default="0.5",
    show_default=True,
    help="Score that a box must reach for --valid-ratio.",
)
@click.option(
    "--skeleton-dir",
    default="",
    help="Folder under --media-root with a pickle of each video's arrays.",
)
@click.option("--python2", is_flag=True, help="The pickle was written by Python 2.")
def skeleton(
    annotation: Path,
    multi_label: bool,
    unlabelled: bool,
    source_split: str | None,
    valid_ratio: float,
    box_thr: str,
    skeleton_dir: str,
    python2: bool,
    **common: Unpack[Common],
) -> None:
    """Pack a skeleton pickle: `split` and `annotations`, or a bare list of annotations.

    The pickle is read with restrictions: one that calls anything is refused.
    """
    from clipshards.packer.annotations.skeleton_file import SkeletonFile

    insist("--valid-ratio", valid_ratio, "--box-thr")
    labels = label_mode(multi_label, unlabelled)
    records = SkeletonFile(
        annotation,
        source_split=source_split,
        labels=labels,
        valid_ratio=valid_ratio,
        box_thr=float(box_thr),
        skeleton_dir=skeleton_dir,
        encoding="latin1" if python2 else "ASCII",
    )
    run_pack(records, common, labels=labels)


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options()
@label_options
@click.option("--with-offset", is_flag=True, help="Lines are `dir offset total_frames label`.")
@click.option(
    "--filename-tmpl",
    default="img_{:05}.jpg",
    show_default=True,
    help="Name of a frame's file; of flow with two fields, as flow_{}_{:05}.jpg.",
)
@click.option(
    "--start-index",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Number of the first frame's file.",
)
@click.option("--rate", default=0.0, help="Frames per second, where known.")
def rawframes(
    annotation: Path,
    multi_label: bool,
    unlabelled: bool,
    with_offset: bool,
    filename_tmpl: str,
    start_index: int,
    rate: float,
    **common: Unpack[Common],
) -> None:
    """Pack a raw frame list, `dir total_frames label [label ...]` a line.

    The JPEG or PNG files are kept without loss: `clipshards show --extract` gives them back.
    """
    from clipshards.packer.annotations.rawframe_list import RawframeList

    labels = label_mode(multi_label, unlabelled)
    records = RawframeList(
        annotation,
        labels=labels,
        with_offset=with_offset,
        filename_tmpl=filename_tmpl,
        start_index=start_index,
        rate=rate,
    )
    run_pack(records, common, labels=labels)


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options()
@label_options
@click.option(
    "--features",
    type=click.Choice(["file", "compute"]),
    default="file",
    show_default=True,
    help="file: the list names npy files. compute: it names sounds or videos, and their mel "
    "features are computed.",
)
@click.option(
    "--keep-audio",
    type=click.Choice(["source", "wav", "flac"]),
    help="Keep the sound beside computed features: the source's own stream, or decoded, as "
    "wav or flac of 16 bits.",
)
def audio(
    annotation: Path,
    multi_label: bool,
    unlabelled: bool,
    features: Any,
    keep_audio: Any,
    **common: Unpack[Common],
) -> None:
    """Pack an audio feature list, `name.npy total_frames label [label ...]` a line."""
    from clipshards.packer.annotations.audio_list import AudioList
    from clipshards.packer.recipe import Recipe

    insist("--features compute", features == "compute", "--keep-audio")
    labels = label_mode(multi_label, unlabelled)
    recipe = Recipe(features=features, keep_audio=keep_audio or "no")
    run_pack(AudioList(annotation, labels=labels), common, labels=labels, recipe=recipe)


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options()
@click.option("--proposals", type=annotation_file, help="Pickle of detected persons.")
@click.option("--exclude", type=annotation_file, help="File of `video_id,timestamp` to leave out.")
@click.option("--label-map", type=annotation_file, help="File with the names of the actions.")
@click.option(
    "--custom-classes",
    metavar="ID,ID,...",
    help="Actions to keep, renumbered from 1; rows of others are left out.",
)
@click.option(
    "--fps",
    default=30.0,
    show_default=True,
    help="Frames per unit of timestamp; 1 where timestamps are frames (MultiSports).",
)
@click.option(
    "--timestamp-start", default=900, show_default=True, help="Timestamp of the first frame."
)
@click.option(
    "--timestamp-end",
    default=1800,
    show_default=True,
    help="Last timestamp that a row may have; -1 for any.",
)
@click.option("--single-label", is_flag=True, help="A person has exactly one action (MultiSports).")
@click.option("--kinetics-ids", is_flag=True, help="Ids of AVA-Kinetics, `<id>_<start>_<end>`.")
@click.option(
    "--media-tmpl",
    default="{}",
    show_default=True,
    help="Path of a video, or folder of frames, with {} for its id.",
)
@click.option(
    "--filename-tmpl", default="", help="Media are folders of frames with files of this name."
)
@click.option(
    "--start-index",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Number of the first frame's file, of folders.",
)
@click.option("--rate", default=0.0, help="Frames per second of folders, where known.")
@click.option(
    "--group",
    type=click.Choice(["clip", "video"]),
    default="clip",
    show_default=True,
    help="clip: a sample for each annotated moment, with the frames around it. "
    "video: one for each video, with all of it.",
)
@click.option(
    "--clip-frames",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Frames around a moment that a clip may be drawn from: clip length times interval.",
)
@click.option("--python2", is_flag=True, help="The proposals were written by Python 2.")
def ava(
    annotation: Path,
    proposals: Path | None,
    exclude: Path | None,
    label_map: Path | None,
    custom_classes: str | None,
    fps: float,
    timestamp_start: int,
    timestamp_end: int,
    single_label: bool,
    kinetics_ids: bool,
    media_tmpl: str,
    filename_tmpl: str,
    start_index: int,
    rate: float,
    group: Any,
    clip_frames: int,
    python2: bool,
    **common: Unpack[Common],
) -> None:
    """Pack an AVA csv, `video_id,timestamp,x1,y1,x2,y2,action_id,entity_id` a line.

    Entries are its rows: rows of one moment and one box are one person.
    """
    from clipshards.packer.annotations.ava_csv import AvaCsv

    insist("--filename-tmpl", filename_tmpl, "--start-index", "--rate")
    insist("--proposals", proposals, "--python2")
    try:
        classes = tuple(map(int, custom_classes.split(","))) if custom_classes else ()
    except ValueError:
        raise click.UsageError("--custom-classes: expected ids, as 1,3,12") from None
    records = AvaCsv(
        annotation,
        proposals=proposals,
        exclude=exclude,
        label_map=label_map,
        custom_classes=classes,
        fps=fps,
        timestamp_start=timestamp_start,
        timestamp_end=None if timestamp_end == -1 else timestamp_end,
        labels="one" if single_label else "many",
        kinetics_ids=kinetics_ids,
        media_tmpl=media_tmpl,
        filename_tmpl=filename_tmpl,
        start_index=start_index,
        rate=rate,
        group=group,
        clip_frames=clip_frames,
        pickle_encoding="latin1" if python2 else "ASCII",
    )
    run_pack(records, common, labels=records.labels, class_names=records.class_names)


@pack.command()
@click.argument("annotation", type=annotation_file)
@common_options()
@click.option("--source-split", help="Subset of the annotation to pack, as validation.")
@click.option(
    "--feature-tmpl",
    default="{}.csv",
    show_default=True,
    help="Path of a video's features, csv or npy, with {} for its name; empty for none.",
)
@click.option(
    "--video-tmpl", default="", help="Path of the video itself, with {} for its name, as v/{}.mp4."
)
@video_options
def activitynet(
    annotation: Path,
    source_split: str | None,
    feature_tmpl: str,
    video_tmpl: str,
    **options: Any,
) -> None:
    """Pack an ActivityNet json, in MMAction2's layout or the official one."""
    from clipshards.packer.annotations.activitynet_file import ActivityNetFile

    insist("--video-tmpl", video_tmpl, "--recipe", "--frame-table")
    recipe, common = video_recipe(options)
    records = ActivityNetFile(
        annotation,
        source_split=source_split,
        feature_tmpl=feature_tmpl,
        video_tmpl=video_tmpl,
    )
    run_pack(records, common, labels="none", class_names=records.class_names, recipe=recipe)
