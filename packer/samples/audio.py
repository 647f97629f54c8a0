"""An audio record becomes a sample: the mel features of a video's sound, and perhaps the sound."""

from typing import TYPE_CHECKING, Any

import numpy as np

from clipshards.packer.format.errors import MediaError
from clipshards.packer.format.json_parts import AudioJson
from clipshards.packer.format.structure import SOUND_SUFFIXES
from clipshards.packer.media.features import NPY_MAGIC, read_npy
from clipshards.packer.media_root import MediaRoot
from clipshards.packer.recipe import Recipe
from clipshards.packer.records import AudioRecord
from clipshards.packer.samples.base import Material, Sample, make_sample

if TYPE_CHECKING:
    import numpy.typing as npt

    from clipshards.packer.media.keep_sound import KeptSound

# For the plan, which opens no file: a common rate, and what a second comes to.
_FRAMES_A_SECOND = 25
_MEL_BYTES_A_SECOND = 20_000
_SOUND_BYTES_A_SECOND = {"no": 0, "source": 16_000, "wav": 176_400, "flac": 100_000}


def audio_size(record: AudioRecord, root: MediaRoot, recipe: Recipe) -> int | None:
    """Return about how many bytes the parts of a record have; None without its file."""
    size = root.size(record.path)
    if size is None or recipe.features == "file":
        return size
    seconds = record.total_frames // _FRAMES_A_SECOND + 1
    sound = _SOUND_BYTES_A_SECOND[recipe.keep_audio] * seconds
    if recipe.keep_audio == "source" and record.path.lower().endswith(SOUND_SUFFIXES):
        sound = size
    return _MEL_BYTES_A_SECOND * seconds + sound


def make_audio_sample(record: AudioRecord, material: Material) -> Sample:
    """Return the sample of an audio record.

    Raises:
        MediaError: The file is missing; it is no array of frames and bands; or its features
            are to be computed and it has no sound, a broken one, or one that cannot be kept
            as the recipe asks.
    """
    data = material.root.read(record.path)
    kept = None
    if material.recipe.features == "compute":
        try:
            mel, kept = _from_sound(data, material.recipe)
        except MediaError as exc:
            raise MediaError(f"{record.path!r}: {exc}") from exc
    elif not data.startswith(NPY_MAGIC):
        raise MediaError(
            f"{record.path!r}: expected an npy file of features, got {data[:16]!r}; those of a "
            "sound or a video are computed if the recipe says so (--features compute)"
        )
    else:
        mel = read_npy(data, record.path)
    if not np.isfinite(mel).all():
        raise MediaError(f"{record.path!r}: expected finite numbers, got NaN or infinity")
    about = AudioJson(
        id=record.id or record.path,
        origin=str(record.origin),
        labels=record.labels,
        total_frames=record.total_frames,
        codec="" if kept is None else kept.codec,
        sample_rate_hz=0 if kept is None else kept.sample_rate_hz,
        channels=0 if kept is None else kept.channels,
        duration_s=0.0 if kept is None else kept.duration_s,
    )
    values: dict[str, Any] = {"mel.npy": mel}
    if kept is not None:
        values[kept.part] = kept.data
    return make_sample("audio", about, values)


def _from_sound(
    data: bytes, recipe: Recipe
) -> "tuple[npt.NDArray[np.floating[Any]], KeptSound | None]":
    """Return the features of a sound, and what is kept of it."""
    # PyAV and librosa are loaded with the first sound, not with the package.
    from clipshards.packer.media.keep_sound import keep_sound
    from clipshards.packer.media.mel import mel_features
    from clipshards.packer.media.sound import mono_16k

    if data.startswith(NPY_MAGIC):
        raise MediaError("expected a sound or a video, got features, which need no computing")
    mel = mel_features(mono_16k(data))
    return mel, None if recipe.keep_audio == "no" else keep_sound(data, recipe.keep_audio)
