"""The order of a stream, from docs/format/order.md alone."""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def derive(key: int, name: int) -> int:
    return mix(key ^ mix((name + GOLDEN) & MASK))


def draw(key: int, index: int) -> int:
    return mix((key + index * GOLDEN) & MASK)


def permute(size: int, key: int, x: int) -> int:
    if size == 1:
        return 0
    bits = max(2, (size - 1).bit_length())
    low_bits = bits // 2
    high_bits = bits - low_bits
    rounds = 24 if bits <= 10 else 8
    while True:
        low, high = x & ((1 << low_bits) - 1), x >> low_bits
        for r in range(1, rounds, 2):
            high ^= mix(draw(key, r) ^ low) >> (64 - high_bits)
            low ^= mix(draw(key, r + 1) ^ high) >> (64 - low_bits)
        x = high << low_bits | low
        if x < size:
            return x


def prime_factors(n: int) -> list[int]:
    factors, f = [], 2
    while n > 1:
        while n % f == 0:
            factors.append(f)
            n //= f
        f += 1
    return factors


def epoch_order(rows: int, block: int, lanes: int, window: int, seed: int, epoch: int) -> list[int]:
    """The ordinals at all positions of an epoch."""
    key = derive(seed, epoch)
    if window == 0 or window >= rows:
        window = lanes * -(-rows // lanes)
    blocks = -(-rows // block)
    line: list[int] = []
    for place in range(blocks):
        b = permute(blocks, derive(key, 1), place)
        line += range(b * block, min(rows, (b + 1) * block))
    moduli, product = [], 1
    for factor in prime_factors(lanes):
        product *= factor
        moduli.append(product)
    start: dict[int, int] = {}
    at = 0
    for lane in sorted(range(lanes), key=lambda lane: [lane % m for m in moduli]):
        start[lane] = at
        at += len(range(lane, rows, lanes))
    share = window // lanes
    order = []
    for p in range(rows):
        lane, j = p % lanes, p // lanes
        w = j // share
        size = min((w + 1) * share, len(range(lane, rows, lanes))) - w * share
        cell = derive(derive(derive(key, 2), w), lane)
        order.append(line[start[lane] + w * share + permute(size, cell, j - w * share)])
    return order
