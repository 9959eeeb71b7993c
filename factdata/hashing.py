"""Random access randomness: numbers that depend on (seed, index) alone, computed for any index at any time.

NumPy's generators are sequential; a population of ten million whose individual k never changes wants the k-th
draw without the k-1 before it. The mixing function is SplitMix64's (Steele, Lea and Flood, 2014), which is a
bijection of 64-bit words that passes BigCrush when it is fed a counter.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FEISTEL_ROUNDS = 6


def derive_key(seed: int, purpose: str, index: int = 0) -> np.uint64:
    """A 64-bit key for one purpose, independent between purposes and indices."""
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), index]).generate_state(1, np.uint64)[0]


def mix(words: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, element by element, on uint64."""
    words = words ^ (words >> np.uint64(30))
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def hash_words(key: np.uint64, index: np.ndarray) -> np.ndarray:
    """A random uint64 for each index (any shape): a pure function of (key, index)."""
    return mix(np.asarray(index).astype(np.uint64) * _GOLDEN + key)


def expand_words(words: np.ndarray, count: int) -> np.ndarray:
    """``count`` further random words out of each; shape [..., count]."""
    return mix(words[..., None] + (np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN))


def scale_to(words: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Random words → integers in [0, bound), bound ≤ 2**31; the bias is below bound / 2**32."""
    return (((words >> np.uint64(32)) * np.asarray(bound, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)


def permute(index: np.ndarray, size: int, key: np.uint64) -> np.ndarray:
    """A random bijection of range(size), size ≤ 2**60, evaluated at ``index``: unique draws without remembering any.

    A Feistel network on pairs (left, right) with as good as ``size`` values: each half is shifted, modulo its range,
    by a hash of the other. The few pairs past the end walk on until they fall inside (Black and Rogaway, 2002).
    """
    left_size = math.isqrt(size - 1) + 1
    right_size = -(-size // left_size)
    keys = expand_words(np.asarray(key, dtype=np.uint64), _FEISTEL_ROUNDS)

    result = np.asarray(index, dtype=np.int64).ravel()
    if result.size and not 0 <= result.min() <= result.max() < size:
        raise ValueError(f"indices {result.min()} to {result.max()} leave range({size})")
    walking = np.arange(result.size)
    result = result.copy()
    while walking.size:
        left, right = np.divmod(result[walking], right_size)
        for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
            left = (left + scale_to(hash_words(left_key, right), left_size)) % left_size
            right = (right + scale_to(hash_words(right_key, left), right_size)) % right_size
        result[walking] = left * right_size + right
        walking = walking[result[walking] >= size]
    return result.reshape(np.shape(index))
