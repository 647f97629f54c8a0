"""Media that cannot be packed, or only look so: each is named, none stops a run."""

import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import av
import pytest
from av.bitstream import BitStreamFilterContext

from clipshards.packer import PackReport, Recipe, RejectsError, VideoList, VideoRecord, pack
from clipshards.packer.media.synthetic import write_video
from clipshards.readers import verify

Annotate = Callable[[Sequence[str]], Path]
Abouts = Callable[[Path], dict[str, Any]]
Samples = Callable[[Path], dict[str, dict[str, bytes]]]


def remux(
    source: Path, target: Path, *, keep: Sequence[str] = ("video", "audio"), title: str = ""
) -> None:
    """Copy the streams of a video into another container, the index in front where that goes."""
    container = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}[target.suffix]
    options = {"movflags": "faststart"} if container in ("mp4", "mov") else {}
    with (
        av.open(str(source)) as reader,
        av.open(str(target), "w", format=container, options=options) as writer,
    ):
        if title:
            writer.metadata["title"] = title
        streams = {
            stream.index: writer.add_stream_from_template(stream)
            for stream in (*reader.streams.video, *reader.streams.audio)
            if stream.type in keep
        }
        # AVI holds H.264 with start codes.
        annex_b = (
            BitStreamFilterContext("h264_mp4toannexb", reader.streams.video[0])
            if container == "avi"
            else None
        )
        for packet in reader.demux():
            if packet.dts is None or packet.stream.index not in streams:
                continue
            target_stream = streams[packet.stream.index]
            is_video = packet.stream.type == "video"
            for ready in annex_b.filter(packet) if annex_b and is_video else [packet]:
                ready.stream = target_stream
                writer.mux(ready)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(
            f"still waiting after {seconds} s"
        )  # no OSError: the code under test takes those

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pack_one(media: Path, name: str, out: Path, **options: Any) -> PackReport:
    """Pack a video between two good ones."""
    names = ["v0.mp4", name, "v1.mp4"]
    records = [VideoRecord(path, (label,)) for label, path in enumerate(names)]
    with at_most(60):
        return pack(records, out, split="train", media_root=media, seed=None, **options)


def make_missing(_media: Path, _video: Path) -> None:
    pass


def make_empty(_media: Path, video: Path) -> None:
    video.touch()


def make_truncated_index_first(media: Path, video: Path) -> None:
    remux(media / "v2.mp4", video)
    data = video.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    video.write_bytes(data[: len(data) * 6 // 10])


def make_truncated_index_last(media: Path, video: Path) -> None:
    data = (media / "v2.mp4").read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    video.write_bytes(data[: len(data) * 6 // 10])


def make_cut_by_one_byte(media: Path, video: Path) -> None:
    remux(media / "v2.mp4", video)
    video.write_bytes(video.read_bytes()[:-1])


def make_sound_only(media: Path, video: Path) -> None:
    remux(media / "v2.mp4", video, keep=["audio"])


def make_text(_media: Path, video: Path) -> None:
    video.write_text("This is not a video.\n" * 500)


def make_zeros(_media: Path, video: Path) -> None:
    video.write_bytes(bytes(20_000))


def make_playlist(media: Path, video: Path) -> None:
    video.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{media}/v2.mp4\n")


def make_concat_script(_media: Path, video: Path) -> None:
    # FFmpeg takes it, and opens the file from the working directory.
    video.write_text("ffconcat version 1.0\nfile v2.mp4\n")


def make_session_description(_media: Path, video: Path) -> None:
    # FFmpeg takes it, and waits for the network.
    lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1"]
    video.write_text("\r\n".join([*lines, "m=video 5004 RTP/AVP 96", ""]))


def make_picture_script(_media: Path, video: Path) -> None:
    video.write_text("<svg xmlns='http://www.w3.org/2000/svg'><image href='v2.mp4'/></svg>")


def make_folder(_media: Path, video: Path) -> None:
    video.mkdir()


def make_pipe(_media: Path, video: Path) -> None:
    os.mkfifo(video)


def make_broken_link(media: Path, video: Path) -> None:
    video.symlink_to(media / "nowhere.mp4")


def make_unknown_codec(media: Path, video: Path) -> None:
    data = (media / "v2.mp4").read_bytes()
    assert data.count(b"avc1") >= 1
    video.write_bytes(data.replace(b"avc1", b"zz9z"))


def make_damaged_stream(media: Path, video: Path) -> None:
    data = bytearray((media / "v2.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    stop = data.index(b"moov") - 4
    data[start:stop] = bytes(stop - start)
    video.write_bytes(data)


BAD: list[tuple[str, Callable[[Path, Path], None], str]] = [
    ("missing.mp4", make_missing, "no such file under the media root"),
    ("no/such/folder.mp4", make_missing, "no such file under the media root"),
    ("empty.mp4", make_empty, "the file is empty (0 bytes)"),
    ("index_first.mp4", make_truncated_index_first, "cut short: box 'mdat' ends at byte"),
    ("index_last.mp4", make_truncated_index_last, "not a readable mp4, mov, mkv, webm or avi"),
    ("cut.mp4", make_cut_by_one_byte, "cut short: box 'mdat' ends at byte"),
    ("sound.mp4", make_sound_only, "no video stream in the file"),
    ("text.mp4", make_text, "not a readable mp4, mov, mkv, webm or avi"),
    ("text.mkv", make_text, "not a readable mp4, mov, mkv, webm or avi"),
    ("zeros.avi", make_zeros, "not a readable mp4, mov, mkv, webm or avi"),
    ("playlist.mp4", make_playlist, "not a readable mp4, mov, mkv, webm or avi"),
    ("concat.mp4", make_concat_script, "not a readable mp4, mov, mkv, webm or avi"),
    ("session.mp4", make_session_description, "not a readable mp4, mov, mkv, webm or avi"),
    ("picture.mp4", make_picture_script, "not a readable mp4, mov, mkv, webm or avi"),
    ("folder.mp4", make_folder, "not a regular file"),
    ("pipe.mp4", make_pipe, "not a regular file"),
    ("link.mp4", make_broken_link, "no such file under the media root"),
    ("codec.mp4", make_unknown_codec, ""),
    ("damaged.mp4", make_damaged_stream, ""),
    ("video.txt", make_text, "expected a name ending in .avi, .mkv, .mov, .mp4, .webm, .m4v"),
    ("video", make_text, "expected a name ending in .avi"),
    (".mp4", make_text, "expected a name ending in .avi"),
    ("../outside.mp4", make_missing, "leads out of the media root; allow that or correct it"),
    ("/outside.mp4", make_missing, "leads out of the media root; allow that or correct it"),
    ("n" * 300 + ".mp4", make_missing, "cannot be read: File name too long"),
]


@pytest.mark.parametrize(("name", "make", "says"), BAD, ids=[name[:20] for name, _, _ in BAD])
def test_bad_video_is_rejected_by_name_and_the_run_goes_on(
    tmp_path: Path,
    media: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_abouts: Abouts,
    name: str,
    make: Callable[[Path, Path], None],
    says: str,
) -> None:
    make(media, media / name)
    monkeypatch.chdir(media)
    report = pack_one(media, name, tmp_path / "out")
    (reject,) = report.rejects
    assert (reject.ordinal, reject.id, reject.error) == (1, name, "MediaError")
    assert reject.origin == "records[1]"
    assert reject.message.startswith(f"{name!r}: " if "leads" not in says else repr(name))
    assert says in reject.message
    abouts = read_abouts(tmp_path / "out" / "train")
    assert [about["id"] for about in abouts.values()] == ["v0.mp4", "v1.mp4"]


def test_all_bad_videos_together_are_counted_in_the_order_of_the_list(
    tmp_path: Path, media: Path, annotate: Annotate
) -> None:
    for name, make, _ in BAD:
        make(media, media / name)
    lines = [f"{name} 1" for name, _, _ in BAD]
    lines[5:5] = ["v3.mp4 3", "v4.mp4 4"]
    report = pack(
        VideoList(annotate(lines)), tmp_path / "out", split="train", media_root=media,
        max_rejects=50, shard_size=40_000,
    )  # fmt: skip
    assert report.packed == 2
    assert [(reject.id, reject.origin) for reject in report.rejects] == [
        (line[:-2], f"list.txt:{number}")
        for number, line in enumerate(lines, start=1)
        if not re.match("v[34]", line)
    ]
    assert verify(tmp_path / "out").damage == []


def test_message_of_a_failed_run_names_file_and_line(
    tmp_path: Path, media: Path, annotate: Annotate
) -> None:
    file = annotate(["v0.mp4 0", "gone.mp4 1", "v1.mp4 2"])
    with pytest.raises(RejectsError, match=r"list\.txt:2: 'gone\.mp4': no such file"):
        pack(VideoList(file), tmp_path / "out", split="t", media_root=media, max_rejects=0)


@pytest.mark.parametrize("path", ["../beside/x.mp4", "{tmp}/beside/x.mp4"])
def test_path_out_of_the_root_is_packed_where_that_is_allowed(
    tmp_path: Path, media: Path, read_samples: Samples, path: str
) -> None:
    (tmp_path / "beside").mkdir()
    shutil.copy(media / "v2.mp4", tmp_path / "beside" / "x.mp4")
    name = path.format(tmp=tmp_path)
    assert len(pack_one(media, name, tmp_path / "refused").rejects) == 1
    report = pack_one(media, name, tmp_path / "out", allow_outside=True)
    assert report.rejects == ()
    samples = read_samples(tmp_path / "out" / "train")
    assert samples["train-00000001"]["mp4"] == (media / "v2.mp4").read_bytes()


def test_links_inside_the_root_are_packed(
    tmp_path: Path, media: Path, read_samples: Samples
) -> None:
    (tmp_path / "far").mkdir()
    shutil.copy(media / "v2.mp4", tmp_path / "far" / "x.mp4")
    (media / "link.mp4").symlink_to(tmp_path / "far" / "x.mp4")
    (media / "folder").symlink_to(tmp_path / "far")
    for name in ("link.mp4", "folder/x.mp4"):
        out = tmp_path / f"out-{name[:4]}"
        assert pack_one(media, name, out).rejects == ()
        parts = read_samples(out / "train")["train-00000001"]
        assert parts["mp4"] == (media / "v2.mp4").read_bytes()


def test_mixed_containers_pack_as_they_are(
    tmp_path: Path, media: Path, read_samples: Samples, read_abouts: Abouts
) -> None:
    names = ["v0.mp4", "v1.mkv", "v2.avi", "v3.mov"]
    for name in names[1:]:
        remux(media / f"{name[:2]}.mp4", media / name)
    write_video(media / "silent.m4v", frames=5, width=32, height=32, sound=False)
    records = [VideoRecord(name, (0,)) for name in [*names, "silent.m4v"]]
    report = pack(records, tmp_path / "out", split="train", media_root=media, seed=None)
    assert report.rejects == ()
    samples = read_samples(tmp_path / "out" / "train")
    for record, parts in zip(records, samples.values(), strict=True):
        part = Path(record.path).suffix.removeprefix(".").replace("m4v", "mp4")
        assert list(parts) == ["json", "frames.npy", part]
        assert parts[part] == (media / record.path).read_bytes()
    frames = [about["video"]["frames"] for about in read_abouts(tmp_path / "out/train").values()]
    assert frames == [12, 12, 12, 12, 5]
    assert verify(tmp_path / "out").damage == []


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov"])
def test_title_in_an_old_encoding_does_not_matter(tmp_path: Path, media: Path, suffix: str) -> None:
    video = media / f"titled{suffix}"
    remux(media / "v2.mp4", video, title="caf\xe9 cr\xe8me")
    data = video.read_bytes()
    utf8, latin1 = "caf\xe9 cr\xe8me".encode(), "caf\xe9\xe9 cr\xe8\xe8me".encode("latin-1")
    assert utf8 in data
    assert len(utf8) == len(latin1)
    video.write_bytes(data.replace(utf8, latin1))
    report = pack_one(media, video.name, tmp_path / "out")
    assert report.rejects == ()
    assert report.packed == 3


def test_text_named_mp4_is_packed_unopened(tmp_path: Path, media: Path) -> None:
    make_text(media, media / "text.mp4")
    report = pack_one(media, "text.mp4", tmp_path / "out", recipe=Recipe(frame_table="none"))
    assert report.rejects == ()
    assert verify(tmp_path / "out").damage == []


@pytest.mark.parametrize(
    "name", ["missing.mp4", "empty.mp4", "video.txt", "pipe.mp4", "folder.mp4"]
)
def test_what_is_wrong_from_outside_is_rejected_unopened_too(
    tmp_path: Path, media: Path, name: str
) -> None:
    make = next(make for known, make, _ in BAD if known == name)
    make(media, media / name)
    report = pack_one(media, name, tmp_path / "out", recipe=Recipe(frame_table="none"))
    assert [reject.id for reject in report.rejects] == [name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_damage_of_any_kind_never_stops_a_run(tmp_path: Path, media: Path, suffix: str) -> None:
    remux(media / "v2.mp4", media / f"whole{suffix}")
    whole = (media / f"whole{suffix}").read_bytes()
    draw = random.Random(suffix)
    records = []
    for number in range(100):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 3, 20, 200])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if number % 3 == 0:
            del data[draw.randrange(1, len(data)) :]
        records.append(VideoRecord(f"damaged{number}{suffix}", (0,)))
        (media / records[-1].path).write_bytes(data)
    records.append(VideoRecord("v0.mp4", (0,)))
    report = pack(
        records, tmp_path / "out", split="train", media_root=media, max_rejects=len(records)
    )
    assert report.packed + len(report.rejects) == len(records)
    assert verify(tmp_path / "out").damage == []
