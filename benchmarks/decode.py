"""CPU time to decode the frames of one clip, beside other decoders and beside libavcodec itself.

    python benchmarks/decode.py [--videos FOLDER] [--recipe fast] [--repeats 7] [--rows ROWS]
    python benchmarks/decode.py --threads [--videos FOLDER]

All rows run in one process, each with one decoding thread: in a repeat all get the same frames of
a video in memory, in turn, the first one another each time. A figure is the median of the ratios
inside each repeat, its mean over the videos the geometric one. Frames of every row are compared
with those of a sequential PyAV decode.

Rows: `floor`: libavcodec alone, given just the packets that the frames need, ready-made, and one
conversion of each wanted frame by a kept converter. `clipshards`: `decode_frames`, with the frame
table and the decoder that a reader has. `PyAV from the start`: decode to the last frame, convert
the wanted ones by a kept converter. `PyAVDecode`: what MMAction2's transform does, every frame up
to the last converted. `decord` and `OpenCV`, where they can be imported: `get_batch`, and grab up
to each wanted frame from a file in memory. `PyAV, seeking`: seek to the key frame before a wanted
frame that lies behind one, else decode on.

With `--recipe` the first two rows get the video as the recipe makes it, all others as libx264's
defaults do (medium, crf 23). With `--threads` the clips a second of one and of two threads, 8
uniform frames a clip.
"""

import argparse
import gc
import importlib
import importlib.util
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from harness import textured_videos

from clipshards.packer.encoding import RECIPES
from clipshards.packer.format.frame_table import OFFSET, SIZE
from clipshards.packer.frames.decode import decode_frames, open_context
from clipshards.packer.frames.plan import plan_runs
from clipshards.packer.frames.scan import VideoScan, scan_video
from clipshards.packer.media.encode import encode_video

Frames = npt.NDArray[np.int64]
Decode = Callable[[Frames], Any]
"""Takes frame numbers, gives their pixels in that order."""


class Clip(NamedTuple):
    """A video that is decoded from."""

    data: bytes
    scan: VideoScan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with videos; default: made here")
    parser.add_argument("--recipe", choices=sorted(RECIPES), help="encode them so, for clipshards")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--patterns", default="8 uniform,32x2,8x8,all")
    parser.add_argument("--rows", help="comma list; default: all that can be imported")
    parser.add_argument("--threads", action="store_true", help="compare one thread with two")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.videos:
            files = sorted(path for path in args.videos.iterdir() if path.suffix == ".mp4")
        else:
            files = textured_videos(Path(folder), count=3, megabytes=1, width=340, height=256)
        sources = {path.name: path.read_bytes() for path in files}
    if args.threads:
        compare_threads(list(sources.values()), args.repeats)
        return
    wanted = args.rows.split(",") if args.rows else list(ROWS)
    rows = {name: ROWS[name] for name in wanted}
    bases = [name for name in ("floor", "decord", "PyAV, seeking") if name in rows]
    print(f"{', '.join(sources)}; medians of {args.repeats} repeats\n")
    print(f"| frames | row | CPU ms | {''.join(f'x {base} | ' for base in bases)}equal |")
    print("|---|---|---|" + "---|" * len(bases) + "---|")
    for pattern in args.patterns.split(","):
        taken: dict[str, list[list[float]]] = {name: [] for name in rows}
        equal = dict.fromkeys(rows, 1.0)
        for data in sources.values():
            for name, times in measured(data, rows, pattern, args, equal).items():
                taken[name].append(times)
        for name, of_videos in taken.items():
            figures = [geometric(statistics.median(times) for times in of_videos) * 1000]
            for base in bases:
                figures.append(
                    geometric(
                        statistics.median(a / b for a, b in zip(times, others, strict=True))
                        for times, others in zip(of_videos, taken[base], strict=True)
                    )
                )
            ms, *ratios = figures
            shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"| {pattern} | {name} | {ms:.1f} | {shown} | {equal[name]:.2f} |", flush=True)


def measured(
    data: bytes,
    rows: dict[str, Callable[[Clip], Decode]],
    pattern: str,
    args: argparse.Namespace,
    equal: dict[str, float],
) -> dict[str, list[float]]:
    """Return the CPU seconds of each row and repeat for one video; keep the worst of `equal`."""
    if args.recipe:
        given, data = data, by_default(data)
    source = Clip(data, scan_video(data))
    ours = source
    if args.recipe:
        encoded = encode_video(given, RECIPES[args.recipe])
        ours = Clip(encoded.data, encoded.scan)
    clips = {name: ours if name in ("floor", "clipshards") else source for name in rows}
    decoders = {name: make(clips[name]) for name, make in rows.items()}
    references = {id(clip): reference(clip.data) for clip in (source, ours)}
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for repeat in range(-1, args.repeats):  # the first one warms up, and compares
        frames = chosen(pattern, source.scan.info.frames, rng)
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            begun = time.process_time()
            pictures = decoders[name](frames)
            taken = time.process_time() - begun
            if repeat >= 0:
                times[name].append(taken)
            elif name != "floor":
                due = references[id(clips[name])]
                same = [np.array_equal(a, due[n]) for a, n in zip(pictures, frames, strict=True)]
                equal[name] = min(equal[name], float(np.mean(same)))
    return times


def chosen(pattern: str, total: int, rng: np.random.Generator) -> Frames:
    """Return the frames of a pattern: `8 uniform`, 32 frames 2 apart (`32x2`), or `all`."""
    if pattern == "all":
        return np.arange(total)
    if pattern == "8 uniform":
        return ((np.arange(8) + rng.random(8)) * total / 8).astype(np.int64)
    length, step = map(int, pattern.split("x"))
    start = rng.integers(0, max(total - length * step + 1, 1))
    return (start + np.arange(length) * step) % total


def geometric(values: Iterable[float]) -> float:
    return statistics.geometric_mean(values)


def reference(data: bytes) -> list[npt.NDArray[np.uint8]]:
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        return [
            frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            for frame in container.decode(stream)
        ]


def floor(clip: Clip) -> Decode:
    table = clip.scan.table
    context, reformatter = open_context(clip.scan.info), VideoReformatter()
    packets = []
    for number, (offset, size) in enumerate(table[:, (OFFSET, SIZE)].tolist()):
        packet = av.Packet(size)
        packet.update(clip.data[offset : offset + size])
        packet.pts = number
        packets.append(packet)

    def decode(frames: Frames) -> None:
        for run in plan_runs(table, frames):
            wanted = set(run.wanted.tolist())
            context.reorder_depth = clip.scan.info.reorder_depth
            for packet in [*(packets[number] for number in run.feed.tolist()), None]:
                for picture in context.decode(packet):
                    if picture.pts in wanted:
                        reformatter.reformat(picture, format="rgb24", threads=1)
            context.flush_buffers()

    return decode


def clipshards(clip: Clip) -> Decode:
    return partial(decode_frames, clip.data, info=clip.scan.info, table=clip.scan.table)


def from_the_start(clip: Clip, *, convert_all: bool = False) -> Decode:
    def decode(frames: Frames) -> list[Any]:
        wanted, last = set(frames.tolist()), int(frames.max())
        found: dict[int, Any] = {}
        reformatter = VideoReformatter()
        with av.open(io.BytesIO(clip.data), mode="r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for number, picture in enumerate(container.decode(stream)):
                if convert_all:
                    found[number] = picture.to_rgb().to_ndarray()
                elif number in wanted:
                    kept = reformatter.reformat(picture, format="rgb24", threads=1)
                    found[number] = kept.to_ndarray()
                if number == last:
                    break
        return [found[number] for number in frames.tolist()]

    return decode


def seeking(clip: Clip) -> Decode:
    def decode(frames: Frames) -> list[Any]:
        found: dict[int, Any] = {}
        reformatter = VideoReformatter()
        with av.open(io.BytesIO(clip.data), mode="r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            packets = [packet for packet in container.demux(stream) if packet.size]
            times = sorted(packet.pts or 0 for packet in packets)
            keys = np.array(sorted(packet.pts or 0 for packet in packets if packet.is_keyframe))
            rank = {pts: number for number, pts in enumerate(times)}
            at = -1
            pictures: Iterator[VideoFrame] = iter(())
            for number in sorted(set(frames.tolist())):
                key = int(keys[np.searchsorted(keys, times[number], "right") - 1])
                if at < 0 or rank[key] > at:
                    container.seek(key, stream=stream)
                    pictures = container.decode(stream)
                for picture in pictures:
                    at = rank[picture.pts or 0]
                    if at == number:
                        kept = reformatter.reformat(picture, format="rgb24", threads=1)
                        found[number] = kept.to_ndarray()
                        break
        return [found[number] for number in frames.tolist()]

    return decode


def by_default(data: bytes) -> bytes:
    """Return a video as libx264 encodes it by its defaults."""
    out = io.BytesIO()
    with (
        av.open(io.BytesIO(data), mode="r") as source,
        av.open(out, mode="w", format="mp4") as target,
    ):
        given = source.streams.video[0]
        rate = given.average_rate or Fraction(25)
        stream = target.add_stream("libx264", rate=rate)
        stream.width, stream.height = given.width // 2 * 2, given.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(given)):
            picture = frame.reformat(stream.width, stream.height, "yuv420p")
            picture.pts, picture.time_base = number, 1 / rate
            picture.pict_type = PictureType.NONE
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
    return out.getvalue()


def compare_threads(videos: list[bytes], repeats: int) -> None:
    """Print the clips a second of one thread and of two, and their ratio."""
    clips = [Clip(data, scan_video(data)) for data in videos]
    rng = np.random.default_rng(0)
    work = [
        (clip, chosen("8 uniform", clip.scan.info.frames, rng))
        for clip in clips * (48 // len(clips))
    ]
    rates: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for threads in (1, 2) if repeat % 2 else (2, 1):
            with ThreadPoolExecutor(threads) as pool:
                begun = time.perf_counter()
                for _ in pool.map(lambda one: clipshards(one[0])(one[1]), work):
                    pass
                rates[threads].append(len(work) / (time.perf_counter() - begun))
    ratio = statistics.median(b / a for a, b in zip(rates[1], rates[2], strict=True))
    one, two = (statistics.median(rates[threads]) for threads in (1, 2))
    print(f"1 thread {one:.1f} clips/s, 2 threads {two:.1f}: x {ratio:.2f}")


def by_decord(clip: Clip) -> Decode:
    decord = importlib.import_module("decord")

    def decode(frames: Frames) -> Any:
        return decord.VideoReader(io.BytesIO(clip.data), num_threads=1).get_batch(frames).asnumpy()

    return decode


def by_opencv(clip: Clip) -> Decode:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)

    def decode(frames: Frames) -> list[Any]:
        wanted, found = set(frames.tolist()), {}
        with tempfile.NamedTemporaryFile(suffix=".mp4", dir="/dev/shm") as file:
            file.write(clip.data)
            file.flush()
            video = cv2.VideoCapture(file.name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
            for number in range(int(frames.max()) + 1):
                video.grab()
                if number in wanted:
                    found[number] = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)
            video.release()
        return [found[number] for number in frames.tolist()]

    return decode


ROWS: dict[str, Callable[[Clip], Decode]] = {
    "floor": floor,
    "clipshards": clipshards,
    "PyAV from the start": from_the_start,
    "PyAV, seeking": seeking,
    "PyAVDecode": partial(from_the_start, convert_all=True),
}
if importlib.util.find_spec("decord"):
    ROWS["decord"] = by_decord
if importlib.util.find_spec("cv2"):
    ROWS["OpenCV"] = by_opencv


if __name__ == "__main__":
    main()
