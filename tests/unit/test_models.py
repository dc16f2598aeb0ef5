"""Values that cross layers: what they say of themselves."""

from __future__ import annotations

import pytest

from tokenctl.models import ImportReport


@pytest.mark.parametrize(("posted", "seconds", "rate"), [(4652, 2.0, 2326.0), (0, 2.0, 0.0), (1, 0.0, 1000.0)])
def test_the_rate_of_an_import_is_of_what_its_run_posted(posted: int, seconds: float, rate: float) -> None:
    report = ImportReport("resumed", "0" * 12, "f.csv", 5000, 5000, 0, None, None, seconds=seconds, posted=posted)
    assert report.rate == rate
