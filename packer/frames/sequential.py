"""The decode from the start that defines the frames of a video, and what it finds."""

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.frame_table import NO_PICTURE
from clipshards.packer.frames.decode import FrameConverter, Pixels, rotation_of
from clipshards.packer.frames.plan import Packets


class SequentialDecode:
    """The decode from the start that defines the frames."""

    def __init__(self, stream: VideoStream, watched: set[int]) -> None:
        self.frames = 0
        self.width = self.height = self.rotation = 0
        self.interlaced = False
        self.damaged: list[int] = []
        """Frames that the decoder flagged as concealed."""
        self.fingerprints: dict[int, int] = {}
        """Packet -> fingerprint of its picture, for the watched packets."""
        self._stream = stream
        self._watched = watched
        self._converter = FrameConverter()

    def run(self, packets: list["Packet[VideoStream]"]) -> Packets:
        """Decode all packets; return the display rank of each, -1 for no picture.

        Raises:
            MediaError: The decoder gave up, or gave nothing, or frames of two sizes.
        """
        ranks = np.full(len(packets), NO_PICTURE, dtype=np.int64)
        context = self._stream.codec_context
        try:
            for number, packet in enumerate(packets):
                if packet.is_corrupt:
                    raise MediaError(f"packet {number} is cut short or damaged")
                packet.pts = number
                for frame in context.decode(packet):
                    self._take(frame, ranks)
            for frame in context.decode(None):
                self._take(frame, ranks)
        except av.FFmpegError as exc:
            behind = f"behind frame {self.frames - 1}" if self.frames else "before any frame"
            raise MediaError(f"decoding stopped {behind}: {exc.strerror}") from exc
        if not self.frames:
            raise MediaError("no frame could be decoded")
        return ranks

    def _take(self, frame: VideoFrame, ranks: Packets) -> None:
        if not self.frames:
            self.width, self.height = frame.width, frame.height
            self.rotation = rotation_of(frame)
        if (frame.width, frame.height) != (self.width, self.height):
            raise MediaError(
                f"frame {self.frames} is {frame.width}x{frame.height}, "
                f"the frames before it are {self.width}x{self.height}"
            )
        self.interlaced |= frame.interlaced_frame
        if frame.is_corrupt:
            self.damaged.append(self.frames)
        if frame.pts is not None and 0 <= frame.pts < len(ranks):
            ranks[frame.pts] = self.frames
            if frame.pts in self._watched:
                self.fingerprints[frame.pts] = fingerprint(self._converter.rgb(frame))
        self.frames += 1


def fingerprint(rgb: Pixels) -> int:
    """Return a number that stands for the pixels of a frame."""
    return crc32c(rgb.tobytes())
