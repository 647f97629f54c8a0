"""Mel features of sound, as MMAction2's `build_audio_features.py` makes them.

The bytes are the same on every machine. Only operations that IEEE 754 rounds exactly are
used (+ - * / and the square root, each in a call of its own, in a fixed order), since the
others do not agree: a matrix product depends on the BLAS kernel for the CPU, a sine or a
logarithm on the C library and on the CPU's vectors, a product of complex numbers on
whether the CPU fuses multiplication and addition. Casting to float32 hides such
differences only nearly always, which is not enough for the checksum of a large data set.
So the Fourier transform and the logarithm are written out here.
"""

from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
BANDS = 80

_WINDOW = 512
_HOP = 256
_BINS = _WINDOW // 2 + 1
_LOWEST_HZ, _HIGHEST_HZ = 125, 7600
_LOUDNESS = 0.1
_SILENCE = 1e-4
_FLOOR = 1e-5
# Frames that are worked on at once: small enough for the CPU's cache.
_BLOCK = 256
_SUM_BLOCK = 1 << 20
# The circle in as many points as the window needs.
_POINTS = 2048

Doubles = npt.NDArray[np.float64]


def mel_features(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the log-mel spectrogram of mono sound at 16 kHz.

    The loudness is levelled first. A frame stands for 16 ms; silence is 0.

    Args:
        samples: float32 (n,), finite; n may be 0.

    Returns:
        float32 (frames, 80) within [0, 1]; frames are n / 256, rounded up, and 1 more.

    Raises:
        ValueError: Another dtype or shape, or samples that are not finite.
    """
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise ValueError(f"samples: expected float32 (n,), got {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples: expected finite numbers only")
    gain = _LOUDNESS / max(_SILENCE, _root_mean_square(samples))
    frames = -(-len(samples) // _HOP) + 1
    features = np.empty((frames, BANDS), np.float32)
    for start in range(0, frames, _BLOCK):
        stop = min(start + _BLOCK, frames)
        magnitude = _magnitudes(_hops(samples, start, stop + 1) * gain)
        decibel = 20 * _log10(np.maximum(_FLOOR, _mel(magnitude))) - 20
        features[start:stop] = np.clip((decibel + 100) / 100, 0, 1).T
    return features


def _root_mean_square(samples: npt.NDArray[np.float32]) -> float:
    total = 0.0
    for start in range(0, len(samples), _SUM_BLOCK):
        block = samples[start : start + _SUM_BLOCK].astype(np.float64)
        # A cumulative sum adds from left to right; a plain sum is free to choose.
        total += float(np.cumsum(block * block)[-1])
    return float(np.sqrt(total / max(1, len(samples))))


def _hops(samples: npt.NDArray[np.float32], start: int, stop: int) -> Doubles:
    """Return pieces [start, stop) of the sound as columns: piece 0 lies before it, all zeros."""
    padded = np.zeros((stop - start) * _HOP)
    first, last = (start - 1) * _HOP, (stop - 1) * _HOP
    inside = samples[max(0, first) : last]
    padded[max(0, -first) :][: len(inside)] = inside
    return padded.reshape(-1, _HOP).T


def _magnitudes(hops: Doubles) -> Doubles:
    """Return the spectrum's magnitudes (257, frames) of windowed frames of two hops each."""
    frames = np.concatenate([hops[:, :-1], hops[:, 1:]]) * _window()
    # A real transform is a complex one of half the length: even samples and odd ones.
    real, imag = _fourier(frames[0::2], frames[1::2])
    forth, back = [*range(_BINS - 1), 0], [0, *range(_BINS - 2, -1, -1)]
    even_real = (real[forth] + real[back]) * 0.5
    even_imag = (imag[forth] - imag[back]) * 0.5
    odd_real = (imag[forth] + imag[back]) * 0.5
    odd_imag = (real[back] - real[forth]) * 0.5
    cosine, sine = (table[: _POINTS // 2 + 1 : _POINTS // _WINDOW, None] for table in _circle())
    real = even_real + (odd_real * cosine + odd_imag * sine)
    imag = even_imag + (odd_imag * cosine - odd_real * sine)
    magnitudes: Doubles = np.sqrt(real * real + imag * imag)
    return magnitudes


def _fourier(real: Doubles, imag: Doubles) -> tuple[Doubles, Doubles]:
    """Return the discrete Fourier transform of each column; the length is a power of two.

    Stockham's form of the fast transform: halves are combined until all lies in order.
    """
    length, columns = real.shape
    size = length
    while size > 1:
        half = size // 2
        shape = (2, half, length // size, columns)
        (re_a, re_b), (im_a, im_b) = real.reshape(shape), imag.reshape(shape)
        step = _POINTS // size
        cosine, sine = (table[: half * step : step, None, None] for table in _circle())
        re_diff, im_diff = re_a - re_b, im_a - im_b
        real = np.stack([re_a + re_b, re_diff * cosine + im_diff * sine], axis=1)
        imag = np.stack([im_a + im_b, im_diff * cosine - re_diff * sine], axis=1)
        size = half
    return real.reshape(length, columns), imag.reshape(length, columns)


def _mel(magnitude: Doubles) -> Doubles:
    """Return the bands (80, frames), each the weighted sum of its bins from low to high."""
    mel = np.zeros((BANDS, magnitude.shape[1]))
    for band, row in enumerate(mel_basis()):
        for bin_ in row.nonzero()[0].tolist():
            mel[band] += magnitude[bin_] * float(row[bin_])
    return mel


def _log10(values: Doubles) -> Doubles:
    """Return the decimal logarithm, by the series of the area tangent; good to 1e-15."""
    fraction, exponent = np.frexp(values)
    low = fraction < 0.7071067811865476
    fraction = np.where(low, 2 * fraction, fraction)
    ratio = (fraction - 1) / (fraction + 1)
    square = ratio * ratio
    series = np.full_like(values, 1 / 23)
    for odd in range(21, 0, -2):
        series = series * square + 1 / odd
    natural: Doubles = (exponent - low) * 0.6931471805599453 + 2 * ratio * series
    return natural * 0.4342944819032518


@lru_cache(maxsize=1)
def mel_basis() -> npt.NDArray[np.float32]:
    """Return the weight of each bin in each band, float32 (80, 257), read-only."""
    import librosa  # takes a second or two

    basis: npt.NDArray[np.float32] = librosa.filters.mel(
        sr=SAMPLE_RATE_HZ,
        n_fft=_WINDOW,
        n_mels=BANDS,
        fmin=_LOWEST_HZ,
        fmax=_HIGHEST_HZ,
        htk=False,
        norm="slaney",
        dtype=np.float32,
    )
    basis.flags.writeable = False
    return basis


@lru_cache(maxsize=1)
def _window() -> Doubles:
    """Return the square root of a Hann window, (512, 1): half a wave of the sine."""
    return _circle()[1][1 : _POINTS // 2 : 2, None]


@lru_cache(maxsize=1)
def _circle() -> tuple[Doubles, Doubles]:
    """Return cosine and sine of k/2048 turns, k from 0 to 2047, read-only.

    Halving a right angle and multiplying need decimals and their square roots only, which
    are exact to the last digit everywhere; the last digits then go in the rounding.
    """
    with localcontext(Context(prec=40)):
        x, y = Decimal(0), Decimal(1)
        for _ in range((_POINTS // 4).bit_length() - 1):
            x += 1
            norm = (x * x + y * y).sqrt()
            x, y = x / norm, y / norm
        points = [(Decimal(1), Decimal(0))]
        while len(points) < _POINTS:
            re, im = points[-1]
            points.append((re * x - im * y, re * y + im * x))
    table = np.array([[float(re), float(im)] for re, im in points]).T.copy()
    table.flags.writeable = False
    return table[0], table[1]
