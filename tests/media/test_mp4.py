"""The mp4 of whole pictures: the same bytes for ever, and read by FFmpeg."""

import hashlib
import io
from fractions import Fraction

import av
import pytest
from PIL import Image

from clipshards.packer.media import mp4
from clipshards.packer.media.mp4 import stills_mp4


def picture(shade: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (shade, 0, 255 - shade)).save(out, kind)
    return out.getvalue()


def packets_of(data: bytes) -> tuple[list[bytes], list[int | None], Fraction | None]:
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert all(packet.is_keyframe for packet in packets)
        rate = stream.average_rate
        return [bytes(packet) for packet in packets], [packet.pts for packet in packets], rate


def test_bytes_are_those_of_the_first_release() -> None:
    data, place = stills_mp4(
        [b"one", b"three"], codec="mjpeg", width=6, height=4, rate=Fraction(30000, 1001)
    )
    assert data[place:] == b"onethree"
    assert (len(data), place) == (642, 634)
    assert (
        hashlib.sha256(data).hexdigest()
        == "9303c8464c3ae1b2e4bd9c823052b1be9315cfca8ab6ee2710a505fa92c2a38b"
    )


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(30000, 1001), Fraction(1, 1000), Fraction(1000)]
)
@pytest.mark.parametrize(("codec", "kind"), [("png", "PNG"), ("mjpeg", "JPEG")])
def test_ffmpeg_reads_what_was_put_in(codec: str, kind: str, rate: Fraction) -> None:
    files = [picture(shade, kind) for shade in range(0, 250, 50)]
    data, place = stills_mp4(files, codec=codec, width=6, height=4, rate=rate)
    found, times, found_rate = packets_of(data)
    assert (found, found_rate) == (files, rate)
    assert times == [number * rate.denominator for number in range(5)]
    assert data[place:] == b"".join(files)


def test_sizes_and_times_beyond_32_bits_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [picture(shade) for shade in range(3)]
    rate = Fraction(1, 1_000)
    small, _ = stills_mp4(files, codec="png", width=6, height=4, rate=rate)
    # As if the pictures, and then the duration as well, did not fit.
    monkeypatch.setattr(mp4, "_MAX_32", 200)
    data, place = stills_mp4(files, codec="png", width=6, height=4, rate=rate)
    assert b"co64" in data
    assert b"stco" in small
    assert data[place - 16 : place - 8] == b"\0\0\0\1mdat"
    assert packets_of(data) == packets_of(small)
    with av.open(io.BytesIO(data), "r") as container:
        assert container.duration == 3000 * av.time_base
