"""Which files of a model share a request?"""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogbuild.client.sending import _requests
from cogbuild.fingerprint.trees import Entry
from cogbuild.server.batches import MOST, MOST_BYTES

SIZES = st.one_of(st.integers(0, 300), st.integers(60_000, 70_000), st.integers(0, 5_000_000))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(SIZES, max_size=60), st.integers(0, 1200))
def test_each_file_is_in_one_request_and_large_ones_are_alone(sizes: list[int], empty: int) -> None:
    """What a server takes at once is never exceeded, and as few requests are made as that allows, or nearly."""
    files = [
        Entry(f"f{number}", "f", f"{number:064x}", size) for number, size in enumerate([*sizes, *[0] * empty])
    ]
    requests = _requests(files)
    assert sorted(entry.path for request in requests for entry in request) == sorted(
        entry.path for entry in files
    )
    for request in requests:
        total = sum(entry.size for entry in request)
        assert len(request) == 1 or (len(request) <= MOST and total <= MOST_BYTES)
        assert len(request) == 1 or max(entry.size for entry in request) < 64 << 10
    large = sum(entry.size >= 64 << 10 for entry in files)
    small = sum(entry.size for entry in files if entry.size < 64 << 10)
    assert len(requests) <= large + small // (900 << 10) + len(files) // 500 + 1
