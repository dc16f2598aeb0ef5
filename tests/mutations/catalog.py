"""All guards. An edit replaces a text that stands exactly once in its file.

The tests are those that watch the guard; the rest of the suite may notice too, or not.
"""

from __future__ import annotations

from pathlib import Path

from tests.mutations.database import DATABASE
from tests.mutations.program import PROGRAM
from tests.mutations.resilience import RESILIENCE
from tests.mutations.reversals import REVERSALS

ROOT = Path(__file__).parents[2]
MUTATIONS = DATABASE + PROGRAM + RESILIENCE + REVERSALS
