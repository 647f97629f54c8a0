"""An audio record becomes a sample: the mel features of a video's sound."""

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.media.features import read_npy
from clipshards.packer.records import AudioRecord
from clipshards.packer.samples.base import Material, Sample, make_sample


def make_audio_sample(record: AudioRecord, material: Material) -> Sample:
    """Return the sample of an audio record.

    Raises:
        MediaError: The features are missing, or not an array of frames and bands.
    """
    mel = read_npy(material.root.read(record.path), record.path)
    if mel.ndim != 2 or mel.dtype.kind != "f" or not mel.shape[0]:
        raise MediaError(
            f"{record.path!r}: expected floats of shape (frames, bands), at least one frame, "
            f"got {mel.dtype} {mel.shape}"
        )
    about = AudioJson(
        id=record.id or record.path,
        origin=str(record.origin),
        labels=record.labels,
        total_frames=record.total_frames,
    )
    return make_sample("audio", about, {"mel.npy": mel})
