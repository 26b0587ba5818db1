"""Where every random number comes from: hashes of names, and generators made from them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def hash_seed(*parts: str | int) -> int:
    """A seed in [0, 2^63) from `parts`; other parts give an unrelated seed.

    The first 8 bytes of the sha256 of the parts as a JSON list, less the sign bit.
    """
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int) -> "torch.Generator":
    """A random stream on the CPU, whatever device its numbers end up on."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set torch's global generator for code that knows no other, and restore it afterwards.

    The only place where a global generator is touched: initialisation of networks, libraries.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
