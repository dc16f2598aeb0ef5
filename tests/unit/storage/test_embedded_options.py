"""The embedded server's memory."""

from __future__ import annotations

import pytest

from tokenctl.storage.embedded.options import shared_buffers_mb

GB = 1024**3


@pytest.mark.parametrize(
    ("memory_bytes", "expected_mb"),
    [
        (256 * 1024**2, 128),
        (1 * GB, 128),
        (2 * GB, 256),
        (4 * GB, 512),
        (8 * GB, 1024),
        (24 * GB, 3072),
        (512 * GB, 4096),
    ],
)
def test_an_eighth_of_the_memory_within_bounds(memory_bytes: int, expected_mb: int) -> None:
    assert shared_buffers_mb(memory_bytes) == expected_mb
