"""Stable splits, from docs/guide/expressions.md and the description of XXH3 (https://github.com/Cyan4973/xxHash) alone."""

from __future__ import annotations

import datetime
import decimal
import uuid
from fractions import Fraction

MASK = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def _r(data: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _swap(x: int, size: int) -> int:
    return int.from_bytes(x.to_bytes(size, "little"), "big")


def _rotl(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & MASK


def _fold(a: int, b: int) -> int:
    product = (a & MASK) * (b & MASK)
    return (product ^ product >> 64) & MASK


def _avalanche(h: int) -> int:
    h &= MASK
    h = ((h ^ h >> 37) * 0x165667919E3779F9) & MASK
    return h ^ h >> 32


def _avalanche64(h: int) -> int:
    h &= MASK
    h = ((h ^ h >> 33) * P64_2) & MASK
    h = ((h ^ h >> 29) * P64_3) & MASK
    return h ^ h >> 32


def _long(data: bytes, seed: int) -> int:
    parts = [((_r(SECRET, 16 * i) + seed) & MASK, (_r(SECRET, 16 * i + 8) - seed) & MASK) for i in range(12)]
    secret = b"".join(low.to_bytes(8, "little") + high.to_bytes(8, "little") for low, high in parts)
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]

    def stripe(at: int, key_at: int) -> None:
        for i in range(8):
            value = _r(data, at + 8 * i)
            key = value ^ _r(secret, key_at + 8 * i)
            acc[i ^ 1] = (acc[i ^ 1] + value) & MASK
            acc[i] = (acc[i] + (key & 0xFFFFFFFF) * (key >> 32)) & MASK

    size = len(data)
    blocks = (size - 1) // 1024
    for block in range(blocks):
        for n in range(16):
            stripe(block * 1024 + 64 * n, 8 * n)
        for i in range(8):
            acc[i] = ((acc[i] ^ acc[i] >> 47 ^ _r(secret, 128 + 8 * i)) * P32_1) & MASK
    for n in range((size - 1 - 1024 * blocks) // 64):
        stripe(blocks * 1024 + 64 * n, 8 * n)
    stripe(size - 64, 121)
    total = size * P64_1
    for i in range(4):
        total += _fold(acc[2 * i] ^ _r(secret, 11 + 16 * i), acc[2 * i + 1] ^ _r(secret, 19 + 16 * i))
    return _avalanche(total)


def xxh3_64(data: bytes, seed: int = 0) -> int:
    size = len(data)

    def mix(at: int, key: int) -> int:
        return _fold(_r(data, at) ^ (_r(SECRET, key) + seed), _r(data, at + 8) ^ (_r(SECRET, key + 8) - seed) & MASK)

    if size == 0:
        return _avalanche64(seed ^ _r(SECRET, 56) ^ _r(SECRET, 64))
    if size <= 3:
        joined = data[0] << 16 | data[size >> 1] << 24 | data[-1] | size << 8
        return _avalanche64(joined ^ (((_r(SECRET, 0, 4) ^ _r(SECRET, 4, 4)) + seed) & MASK))
    if size <= 8:
        flipped = seed ^ _swap(seed & 0xFFFFFFFF, 4) << 32
        h = (_r(data, size - 4, 4) + (_r(data, 0, 4) << 32)) ^ ((_r(SECRET, 8) ^ _r(SECRET, 16)) - flipped) & MASK
        h ^= _rotl(h, 49) ^ _rotl(h, 24)
        h = (h * 0x9FB21C651E98DF25) & MASK
        h = ((h ^ (h >> 35) + size) * 0x9FB21C651E98DF25) & MASK
        return h ^ h >> 28
    if size <= 16:
        low = _r(data, 0) ^ ((_r(SECRET, 24) ^ _r(SECRET, 32)) + seed) & MASK
        high = _r(data, size - 8) ^ ((_r(SECRET, 40) ^ _r(SECRET, 48)) - seed) & MASK
        return _avalanche(size + _swap(low, 8) + high + _fold(low, high))
    if size <= 128:
        total = size * P64_1
        for i in range((size - 1) // 32 + 1):
            total += mix(16 * i, 32 * i) + mix(size - 16 * (i + 1), 32 * i + 16)
        return _avalanche(total)
    if size <= 240:
        total = _avalanche(size * P64_1 + sum(mix(16 * i, 16 * i) for i in range(8)))
        total += mix(size - 16, 119) + sum(mix(16 * i, 16 * (i - 8) + 3) for i in range(8, size // 16))
        return _avalanche(total)
    return _long(data, seed)


def text_of(key: object) -> str:
    """The text of a key that is not null."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, datetime.datetime):
        since = key.replace(tzinfo=datetime.timezone.utc) - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return str((since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000)
    if isinstance(key, datetime.date):
        return key.isoformat()
    if isinstance(key, decimal.Decimal):
        text = f"{key:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    assert isinstance(key, (str, int, uuid.UUID))
    return str(key)


def position(key: object, seed: int = 0) -> Fraction:
    return Fraction(xxh3_64(text_of(key).encode(), seed) >> 11, 1 << 53)


def part(key: object, parts: dict[str, str], seed: int = 0) -> str | None:
    if key is None:
        return None
    at = position(key, seed)
    end = Fraction(0)
    for name, share in parts.items():
        end += Fraction(share)
        if at < end:
            return name
    return None
