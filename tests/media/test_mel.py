import hashlib
import os
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from clipshards.packer.media import mel
from clipshards.packer.media.mel import mel_basis, mel_features
from clipshards.packer.media.sound import mono_16k


def noise(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return noise whose loudness swells, the same on every machine."""
    steps = np.arange(count, dtype=np.uint64) + np.uint64(seed * 7919 + 1)
    mixed = (steps * np.uint64(2654435761) ^ (steps * steps >> np.uint64(3))) % np.uint64(65536)
    levels = mixed.astype(np.float32) / 32768 - 1
    swell = (steps % np.uint64(4096)).astype(np.float32) / 4096
    return (levels * swell).astype(np.float32, copy=False)


def plain(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the features by NumPy's own transform, product and logarithm."""
    x = samples.astype(np.float64)
    x = x * (0.1 / max(1e-4, np.sqrt(np.mean(x * x)) if len(x) else 0.0))
    frames = -(-len(x) // 256) + 1
    padded = np.zeros(256 * (frames + 1))
    padded[256 : 256 + len(x)] = x
    n = np.arange(512)
    window = np.sqrt(0.5 * (1 - np.cos(2 * np.pi * (2 * n + 1) / 1024)))
    cut = np.stack([padded[256 * i : 256 * i + 512] for i in range(frames)])
    bands = np.abs(np.fft.rfft(cut * window)) @ mel_basis().T.astype(np.float64)
    decibel = 20 * np.log10(np.maximum(1e-5, bands)) - 20
    features: npt.NDArray[np.float64] = np.clip((decibel + 100) / 100, 0, 1)
    return features


# Around the hop of 256, the window of 512, and the block of 256 frames.
@pytest.mark.parametrize(
    "count", [0, 1, 255, 256, 257, 511, 512, 513, 65279, 65280, 65281, 65536, 70000]
)
def test_features_follow_the_formula(count: int) -> None:
    features = mel_features(noise(count))
    assert features.shape == (-(-count // 256) + 1, 80)
    assert features.dtype == np.float32
    assert np.abs(features - plain(noise(count))).max() < 1e-6


def test_features_are_those_of_mmaction2_at_16_khz(shared_data: Path) -> None:
    with wave.open(str(shared_data / "audio" / "clip_audio_16k.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        levels = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    theirs = np.load(shared_data / "audio_features" / "clip_audio_16k.npy")
    ours = mel_features(levels.astype(np.float32) / np.float32(32768))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert np.abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("name", ["audio/clip_audio.wav", "videos/clip_audio.mp4"])
def test_features_are_near_those_of_mmaction2_at_other_rates(shared_data: Path, name: str) -> None:
    theirs = np.load(shared_data / "audio_features" / "clip_audio.npy")
    ours = mel_features(mono_16k(shared_data / name))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 2e-3


def test_silence_is_zero() -> None:
    assert not mel_features(np.zeros(1000, np.float32)).any()
    assert not mel_features(np.full(1000, 1e-40, np.float32)).any()


def test_loudness_is_levelled() -> None:
    quiet = mel_features(noise(20_000) * np.float32(1 / 64))
    assert np.array_equal(quiet, mel_features(noise(20_000)))


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(9),
        np.zeros((1, 9), np.float32),
        np.array([0, np.nan], np.float32),
        np.array([0, np.inf], np.float32),
    ],
    ids=["float64", "two axes", "NaN", "infinite"],
)
def test_other_samples_are_wrong_arguments(samples: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="samples: expected"):
        mel_features(samples)


def test_circle_and_logarithm_are_right_to_the_last_digits() -> None:
    angles = 2 * np.pi * np.arange(2048) / 2048
    cosine, sine = mel._circle()
    assert np.abs(cosine - np.cos(angles)).max() < 1e-15
    assert np.abs(sine - np.sin(angles)).max() < 1e-15
    values = np.geomspace(1e-5, 1e9, 10_001)
    assert np.abs(mel._log10(values) - np.log10(values)).max() < 1e-14


# The bytes are part of what a shard promises: they may never change.
BASIS = "e757a38a2c08df83c887f0222644cd9e4a0f7386f89121c9b1333307f225599a"
FEATURES = "74c52379c94a38b4b4c73a1875115a7851da2c223586222778bbf2f279b77972"


def test_bytes_are_those_of_all_machines() -> None:
    assert hashlib.sha256(mel_basis().tobytes()).hexdigest() == BASIS
    assert hashlib.sha256(mel_features(noise(70_000)).tobytes()).hexdigest() == FEATURES


def border(weights: npt.NDArray[np.float64]) -> float:
    """Return how near a weight comes to where its rounding to float32 changes, in steps."""
    found = weights[weights > 0]
    rounded = found.astype(np.float32)
    steps = np.abs(found - rounded.astype(np.float64)) / np.spacing(rounded).astype(np.float64)
    return float((0.5 - steps).min())


def test_no_weight_of_the_basis_hangs_on_a_last_digit() -> None:
    # librosa computes in float64 with the C library's exponential, rounds, scales and rounds
    # again. The last digits of float64, 2e-9 of a step of float32, must not show.
    import librosa

    size: dict[str, Any] = {"sr": 16000, "n_fft": 512, "n_mels": 80, "fmin": 125, "fmax": 7600}
    plain_weights = librosa.filters.mel(**size, norm=None, dtype=np.float64)
    scaled = librosa.filters.mel(**size, norm="slaney", dtype=np.float64)
    scale = (scaled / np.where(plain_weights > 0, plain_weights, 1)).max(axis=1, keepdims=True)
    assert border(plain_weights) > 1e-5
    assert border(plain_weights.astype(np.float32) * scale) > 1e-5


CODE = """
import sys
sys.path[:0] = sys.argv[1:]
import hashlib
from test_mel import noise
from clipshards.packer.media.mel import mel_features
print(hashlib.sha256(mel_features(noise(70_000)).tobytes()).hexdigest())
"""

CPUS = {
    "old BLAS": {"OPENBLAS_CORETYPE": "Prescott"},
    "new BLAS": {"OPENBLAS_CORETYPE": "Haswell"},
    "old vectors": {
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 X86_V3 AVX512F AVX512_SKX X86_V4",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX2_Usable,-FMA_Usable",
    },
}


def test_bytes_do_not_depend_on_the_cpu() -> None:
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CODE, here],
            env=os.environ | setting,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for setting in CPUS.values()
    ]
    for name, process in zip(CPUS, running, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.strip() == FEATURES, name
