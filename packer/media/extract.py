"""Sound out of videos, and mel features out of sound, for a whole folder of files."""

import os
import secrets
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from clipshards.packer.format.errors import MediaError, NotFoundError, StorageError
from clipshards.packer.format.npy import encode_npy
from clipshards.packer.media.mel import BANDS, mel_features
from clipshards.packer.media.sound import mono_16k, write_wav
from clipshards.packer.media.workers import run_all

Progress = Callable[[int, int], None]
"""Called with (files done since the last call, files in all)."""

_FORGOTTEN_AFTER_S = 24 * 3600
# How much deeper than asked a hint looks for the files that were not found.
_HINT_LEVELS = 3
_HINT_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or a folder, of which nothing came."""

    path: str
    """Relative to the folder that was searched."""
    reason: str


@dataclass(frozen=True, slots=True)
class AudioReport:
    """What a run over a folder did: files = made + skipped + failures."""

    source: str
    target: str
    files: int
    """In this part."""
    made: int
    skipped: int
    """Made by an earlier run."""
    failures: tuple[Failure, ...]
    """Sorted by path."""
    seconds: float = field(compare=False)


def extract_audio(
    root: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ext: str | Sequence[str] = "mp4",
    level: int = 2,
    workers: int = 8,
    progress: Progress | None = None,
) -> AudioReport:
    """Write the sound of each video below `root` as a wav at the same place below `dst`.

    Class/x.mp4 becomes class/x.wav, with the rate and the channels of its first audio
    stream, in 16 bits. A wav appears under its name only when it is whole and on disk, so a
    run that was killed goes on when it is called again. A file that stands there is skipped
    if its header tells its size rightly, whoever made it, and made again if not.

    Videos whose names differ in the extension alone would become one wav: they fail.

    Args:
        root: Folder to search; files and folders with a point in front are passed over.
        dst: Folder to write to; made if missing.
        ext: Extension of the videos, or several; upper and lower case are one.
        level: Folders from `root` to a video, itself included: 2 for class/x.mp4.
        workers: Processes; 0 for this process alone.
        progress: Called after each file.

    Raises:
        ValueError: An argument is out of range.
        NotFoundError: There is no such folder, or no such file in it.
        StorageError: `dst` cannot be written.
    """
    return _run(_WAV, root, dst, ext, level, (1, 1), workers, progress)


def build_audio_features(
    audio_home: str | os.PathLike[str],
    spectrogram_dir: str | os.PathLike[str],
    *,
    ext: str | Sequence[str] = "wav",
    level: int = 2,
    part: tuple[int, int] = (1, 1),
    workers: int = 4,
    progress: Progress | None = None,
) -> AudioReport:
    """Write the mel features of each sound below `audio_home`, at the same place.

    Class/x.wav becomes class/x.npy, float32 (frames, 80), see `mel_features`. All else is
    as for `extract_audio`, from whose output the defaults go on; videos can be read too.

    Args:
        audio_home: Folder to search.
        spectrogram_dir: Folder to write to; made if missing.
        ext: Extension of the sounds, or several.
        level: Folders from `audio_home` to a sound, itself included.
        part: (k, n), k from 1 to n: the k-th of n runs. Which one does a file depends on its
            name alone, so that all together do each file once, whatever else comes or goes.
        workers: Processes; 0 for this process alone.
        progress: Called after each file.

    Raises:
        ValueError: An argument is out of range.
        NotFoundError: There is no such folder, or no such file in it.
        StorageError: `spectrogram_dir` cannot be written.
    """
    number, parts = part
    if not 1 <= number <= parts:
        raise ValueError(f"part {number}/{parts}: expected k/n with k from 1 to n")
    return _run(_NPY, audio_home, spectrogram_dir, ext, level, part, workers, progress)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What files are made, and how."""

    suffix: str
    write: Callable[[str, BinaryIO], None]
    is_whole: Callable[[BinaryIO, int], bool]
    """Whether a file of so many bytes is what its header says."""


_Task: TypeAlias = tuple[str, str]
"""What is read, and what is made of it."""


def _run(
    kind: _Kind,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    ext: str | Sequence[str],
    level: int,
    part: tuple[int, int],
    workers: int,
    progress: Progress | None,
) -> AudioReport:
    started = time.monotonic()
    endings = _endings(ext)
    if level < 1:
        raise ValueError(f"level {level}: expected at least 1")
    if workers < 0:
        raise ValueError(f"workers {workers}: expected at least 0")
    root, out = os.path.abspath(source), os.path.abspath(target)  # noqa: PTH100 - links stay links
    found, failures = _find(root, endings, level)
    targets = {name: _stem(name, endings) + kind.suffix for name in found}
    makers = Counter(targets.values())
    number, parts = part
    mine = [name for name in found if _part_of(targets[name], parts) == number]
    # Folders that cannot be read are told of by the first part alone.
    failures = failures if number == 1 else []
    files = len(mine) + len(failures)
    _make_folder(out)
    tasks: dict[str, _Task] = {}
    made = skipped = 0
    for name in mine:
        try:
            if makers[targets[name]] > 1:
                raise MediaError(
                    f"another file would become {targets[name]!r} too; rename one, or take "
                    "one extension at a time into a folder of its own"
                )
            task = (f"{root}/{name}", f"{out}/{targets[name]}")
            if _stands(kind, *task):
                skipped += 1
            else:
                tasks[name] = task
        except MediaError as exc:
            failures.append(Failure(name, str(exc)))
        except OSError as exc:
            failures.append(Failure(name, exc.strerror or str(exc)))
    _clean({Path(out, targets[name]).parent for name in mine})
    tell = progress or (lambda *_: None)
    tell(files - len(tasks), files)
    names = list(tasks)
    work = _make_wav if kind is _WAV else _make_npy
    with closing(run_all(work, list(tasks.values()), workers=workers)) as results:
        for place, reason in results:
            if reason:
                failures.append(Failure(names[place], reason))
            else:
                made += 1
            tell(1, files)
    return AudioReport(
        source=os.fspath(source),
        target=os.fspath(target),
        files=files,
        made=made,
        skipped=skipped,
        failures=tuple(sorted(failures, key=lambda failure: os.fsencode(failure.path))),
        seconds=time.monotonic() - started,
    )


def _endings(ext: str | Sequence[str]) -> tuple[str, ...]:
    """Return extensions in lower case with their point."""
    given = (ext,) if isinstance(ext, str) else tuple(ext)
    endings = tuple("." + text.lower().removeprefix(".") for text in given)
    if not endings or any(len(text) < 2 or "/" in text for text in endings):
        raise ValueError(f"ext {ext!r}: expected an extension as 'mp4', or several")
    return endings


def _ending(name: str, endings: Sequence[str]) -> str:
    """Return the longest ending that a name has, in lower case; empty for none."""
    fits = [text for text in endings if name.lower().endswith(text)]
    return max(fits, key=len, default="")


def _stem(name: str, endings: Sequence[str]) -> str:
    return name[: -len(_ending(name, endings))]


def _part_of(name: str, parts: int) -> int:
    """Return which part, from 1 on, a file belongs to."""
    return zlib.crc32(os.fsencode(name)) % parts + 1


def _find(root: str, endings: Sequence[str], level: int) -> tuple[list[str], list[Failure]]:
    """Return the files of these endings at this level, sorted, and the unreadable folders."""
    if not os.path.isdir(root):  # noqa: PTH112 - not every name is a Path's
        raise NotFoundError(f"{root}: no such folder")
    failures: list[Failure] = []
    found = [
        name
        for depth, name in _walk(root, level, failures)
        if depth == level and _ending(name, endings)
    ]
    if not found and not failures:
        wanted = " or ".join(endings)
        raise NotFoundError(f"{root}: no file {wanted} at level {level}; {_hint(root, level)}")
    return sorted(found, key=os.fsencode), failures


def _walk(root: str, levels: int, failures: list[Failure]) -> Iterator[tuple[int, str]]:
    """Yield level and path of all that is no folder, and add folders that cannot be read.

    Links are followed, as data sets are laid out by them, but not into a folder that they
    stand in.
    """
    stack: list[tuple[str, int, tuple[tuple[int, int], ...]]] = [("", 1, ())]
    while stack:
        folder, depth, above = stack.pop()
        try:
            state = os.stat(f"{root}/{folder}")  # noqa: PTH116
            here = (state.st_dev, state.st_ino)
            if here in above:
                continue
            with os.scandir(f"{root}/{folder}") as entries:
                listed = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as exc:
            failures.append(Failure(folder or ".", exc.strerror or str(exc)))
            continue
        for entry in listed:
            if not _is_folder(entry):
                yield depth, f"{folder}{entry.name}"
            elif depth < levels:
                stack.append((f"{folder}{entry.name}/", depth + 1, (*above, here)))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it will fail and tell
        return False


def _hint(root: str, level: int) -> str:
    """Return what there is instead, for one who is wrong about the level or the extension."""
    seen = islice(_walk(root, level + _HINT_LEVELS, []), _HINT_FILES)
    kinds = Counter((depth, os.path.splitext(name)[1].lower()) for depth, name in seen)  # noqa: PTH122
    places = [
        f"{ending or 'files without extension'} at level {depth} ({count})"
        for (depth, ending), count in kinds.most_common(3)
    ]
    return f"there is {', '.join(places)}" if places else "there are no files at all"


def _make_folder(out: str) -> None:
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"{out}: {exc.strerror or exc}") from exc


def _clean(folders: Iterable[Path]) -> None:
    """Remove what runs have left there that were killed long ago."""
    for folder in folders:
        for file in folder.glob(_partial("*")):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _FORGOTTEN_AFTER_S:
                    file.unlink()


def _partial(token: str) -> str:
    # The point in front hides it from searches by `*`.
    return f".clipshards-{token}.partial"


def _stands(kind: _Kind, source: str, target: str) -> bool:
    """Return whether a file is made already.

    Raises:
        MediaError: What stands there must not be replaced.
    """
    place = Path(target)
    if not place.exists():
        return False
    if not place.is_file():
        raise MediaError(f"{place.name!r} stands in its place and is no file")
    if Path(source).exists() and place.samefile(source):
        raise MediaError("what is made of it would replace it; write to another folder")
    with place.open("rb") as file:
        whole = kind.is_whole(file, os.fstat(file.fileno()).st_size)
    if not whole and place.parent.samefile(Path(source).parent):
        # It may be the user's own.
        raise MediaError(f"{place.name!r} stands beside it and is not whole; remove it")
    return whole


def _make_wav(task: _Task) -> None:
    _make(_WAV, *task)


def _make_npy(task: _Task) -> None:
    _make(_NPY, *task)


def _make(kind: _Kind, source: str, target: str) -> None:
    """Make one file: under another name, to the disk, then renamed."""
    place = Path(target)
    temporary = place.with_name(_partial(secrets.token_hex(8)))
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("xb") as file:
            kind.write(source, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _write_features(source: str, file: BinaryIO) -> None:
    file.write(encode_npy(mel_features(mono_16k(source))))


def _is_whole_wav(file: BinaryIO, size: int) -> bool:
    header = file.read(12)
    if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
        return False
    if int.from_bytes(header[4:8], "little") + 8 != size:
        return False
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        place = file.tell()
        if name == b"data":
            return bool(length) and place + length <= size
        file.seek(place + length + length % 2)
    return False


def _is_whole_npy(file: BinaryIO, size: int) -> bool:
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            return False
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return False
    bands_fit = len(shape) == 2 and shape[0] > 0 and shape[1] == BANDS
    return bands_fit and dtype == np.float32 and file.tell() + shape[0] * BANDS * 4 == size


_WAV = _Kind(".wav", write_wav, _is_whole_wav)
_NPY = _Kind(".npy", _write_features, _is_whole_npy)
