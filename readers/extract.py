"""Taking a sample's files out again, under names that cannot leave the folder given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipshards.packer.format.errors import FormatError, StorageError
from clipshards.packer.format.frame_names import frame_name
from clipshards.packer.format.json_ava import AvaJson
from clipshards.packer.format.json_parts import RawframesJson
from clipshards.packer.format.structure import RAWFRAMES_VIDEOS
from clipshards.packer.format.tasks import TASKS
from clipshards.readers.fetch import RawSample

_STILLS = ("mp4", "frames.npy")
"""Parts that hold the frames of a folder, and are none of its files."""


def extract_sample(raw: RawSample, task: str, folder: Path) -> list[Path]:
    """Write the files of a sample below `folder`; return their paths.

    They stand in a folder called after the sample's key: frames of a folder under their old
    names, bit for bit; else each part as a file `<key>.<part>`.

    Raises:
        FormatError: A part breaks the format, or a name leads out of the folder.
        StorageError: A file cannot be written, or stands there already.
    """
    values = TASKS[task].decode_all(raw.parts, where=raw.where)
    about = values["json"]
    if isinstance(about, RawframesJson):
        files = _frames(values, about.filename_tmpl, about.start_index)
    elif isinstance(about, AvaJson) and about.filename_tmpl:
        # A clip begins somewhere in the folder.
        files = _frames(values, about.filename_tmpl, about.start_index + about.first_frame)
        files |= _parts(raw, without=_STILLS)
    else:
        files = _parts(raw)
    written = []
    for name, data in files.items():
        path = folder / raw.key / name
        if not path.resolve().is_relative_to(folder.resolve() / raw.key) or "/" in raw.key:
            raise FormatError(f"{raw.where}: {name!r} leads out of the folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(data)
        except OSError as exc:
            raise StorageError(f"{path}: cannot be written: {exc.strerror}") from exc
        written.append(path)
    return written


def _parts(raw: RawSample, *, without: Sequence[str] = ()) -> dict[str, bytes]:
    return {f"{raw.key}.{name}": data for name, data in raw.parts.items() if name not in without}


def _frames(values: dict[str, Any], filename_tmpl: str, first: int) -> dict[str, bytes]:
    """Return name and bytes of each file of a folder of frames, numbered from `first` on."""
    # Pillow comes with it, which nothing but raw frames needs.
    from clipshards.packer.frames.stills import split_stills

    files = {}
    for videos, tables in RAWFRAMES_VIDEOS.items():
        for video, table in zip(videos, tables, strict=True):
            if video not in values:
                continue
            axis = video[len("flow_")] if len(videos) == 2 else None
            stills = split_stills(values[video], values[table])
            for number, data in enumerate(stills, start=first):
                files[frame_name(filename_tmpl, number, axis)] = data
    return files
