"""From decoded frames to those that are encoded: upright, scaled, 4:2:0 in 8 bits."""

from dataclasses import dataclass
from fractions import Fraction

from av.filter import Graph
from av.video.frame import VideoFrame

from clipshards.packer.format.errors import MediaError

# bicubic is FFmpeg's own choice; the others make it the same on every machine, and look at
# every chroma sample of what has more of them.
_SCALER = "bicubic+accurate_rnd+bitexact+full_chroma_inp+full_chroma_int"
# FFmpeg's numbers of the ranges of levels, and ITU-T H.273's of what RGB becomes.
_LIMITED, _FULL = 1, 2
_BT601 = 6
# Filters by turns of 90 degrees counter-clockwise.
_TURNS: tuple[tuple[tuple[str, dict[str, str]], ...], ...] = (
    (),
    (("transpose", {"dir": "cclock"}),),
    (("hflip", {}), ("vflip", {})),
    (("transpose", {"dir": "clock"}),),
)


@dataclass(frozen=True, slots=True)
class Colors:
    """What becomes of the colours of frames."""

    made_range: int
    made_space: int
    options: dict[str, str]
    """Of the scaler; empty where nothing is to be converted."""

    @staticmethod
    def of(frame: VideoFrame) -> "Colors":
        """Return what is to become of the colours of frames like this one."""
        made_range, made_space = int(frame.color_range), int(frame.colorspace)
        options = {}
        if frame.format.is_rgb or frame.format.has_palette:
            made_range, made_space = _LIMITED, _BT601
            options = {"out_range": "limited", "out_color_matrix": "bt601"}
        elif made_range == _FULL or frame.format.name.startswith("yuvj"):
            made_range = _LIMITED
            options = {"in_range": "full", "out_range": "limited"}
        return Colors(made_range, made_space, options)


def even_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return the size of the frames that are encoded, before they are turned upright.

    >>> even_size(1921, 1080, 256), even_size(321, 240, 256), even_size(240, 427, 240)
    ((456, 256), (320, 240), (240, 426))
    """
    short = min(width, height)
    if 0 < short_side < short:
        # The short side becomes short_side by the same arithmetic.
        width, height = ((side * short_side + short) // (2 * short) * 2 for side in (width, height))
    if short < 2:
        raise MediaError(f"frames of {width}x{height} are too small for 4:2:0")
    return width // 2 * 2, height // 2 * 2


def filter_graph(
    frame: VideoFrame, size: tuple[int, int], turns: int, fps: Fraction, colors: Colors
) -> Graph:
    """Return the filters from decoded frames to those that are encoded.

    Args:
        frame: One of the source's, with its time base.
        size: Width and height before turning.
        turns: By 90 degrees counter-clockwise.
        fps: Frames per second, 0 for no change.
        colors: What the scaler makes of the colours.
    """
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base),
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    width, height = size
    cropped = frame.width - width in (0, 1) and frame.height - height in (0, 1)
    steps: list[tuple[str, dict[str, str]]] = []
    if fps:
        steps.append(("fps", {"fps": str(fps)}))
    if cropped and (width, height) != (frame.width, frame.height):
        steps.append(
            ("crop", {"w": f"{width}", "h": f"{height}", "x": "0", "y": "0", "exact": "1"})
        )
    if not cropped or colors.options or frame.format.name != "yuv420p":
        scale = {"w": f"{width}", "h": f"{height}", "flags": _SCALER}
        steps += [("scale", scale | colors.options), ("format", {"pix_fmts": "yuv420p"})]
    steps += _TURNS[turns]
    nodes = [graph.add(name, **options) for name, options in steps]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    return graph
