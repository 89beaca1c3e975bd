"""Mutations that know nothing of the format: bits, bytes, integers and blocks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

# (data, rng, other seed of the same target) -> mutated data
Mutation = Callable[[bytes, Random, bytes], bytes]

MAX_SIZE = 8 << 20  # of a mutated file; what is larger takes its time by right
BOUNDARIES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def boundary(rng: Random, bits: int) -> int:
    """Return an integer at which programs tend to go wrong, below 2**bits."""
    return rng.choice(BOUNDARIES) % 2**bits


def put(data: bytes, at: int, new: bytes) -> bytes:
    """Return `data` with `new` written over it, at the same length."""
    return (data[:at] + new + data[at + len(new) :])[: len(data)]


def place(data: bytes, rng: Random) -> int:
    """Return a position, the first 256 bytes, where headers are, as often as all the rest."""
    return rng.randrange(min(len(data), 256) if rng.random() < 0.5 else len(data))


def block(data: bytes, rng: Random) -> tuple[int, int]:
    """Return start and end of a block, short ones being more frequent."""
    start = place(data, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, 16, 64, 256, 4096)))


def flip_bits(data: bytes, rng: Random, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(data: bytes, rng: Random, other: bytes) -> bytes:
    start, end = block(data, rng)
    return put(data, start, rng.choice((b"\x00", b"\xff")) * (end - start))


def set_integer(data: bytes, rng: Random, other: bytes) -> bytes:
    code, bits = rng.choice((("H", 16), ("I", 32), ("Q", 64)))
    return put(data, place(data, rng), struct.pack(rng.choice("<>") + code, boundary(rng, bits)))


def truncate(data: bytes, rng: Random, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def delete_block(data: bytes, rng: Random, other: bytes) -> bytes:
    start, end = block(data, rng)
    return data[:start] + data[end:]


def repeat_block(data: bytes, rng: Random, other: bytes) -> bytes:
    start, end = block(data, rng)
    return data[:end] + data[start:end] * rng.choice((1, 1, 4, 64)) + data[end:]


def swap_blocks(data: bytes, rng: Random, other: bytes) -> bytes:
    start, end = block(data, rng)
    at = place(data, rng)
    moved = put(data, start, data[at : at + end - start])
    return put(moved, at, data[start:end])


def insert(data: bytes, rng: Random, other: bytes) -> bytes:
    at = place(data, rng)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 256))) + data[at:]


def splice(data: bytes, rng: Random, other: bytes) -> bytes:
    """Join the head of this file and the tail of another."""
    return data[: place(data, rng)] + other[place(other, rng) :] if other else data


ON_BYTES: tuple[Mutation, ...] = (
    flip_bits, set_bytes, set_integer, truncate, delete_block, repeat_block, swap_blocks, insert, splice,
)  # fmt: skip


def mutate(data: bytes, rng: Random, other: bytes, informed: tuple[Mutation, ...]) -> bytes:
    """Apply one to four mutations, half of them such as know the format."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if not data:
            break
        mutated = rng.choice(informed if informed and rng.random() < 0.6 else ON_BYTES)(data, rng, other)
        data = mutated if len(mutated) <= MAX_SIZE else data
    return data
