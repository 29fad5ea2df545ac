import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def alone() -> Iterator[None]:
    """Other tests' tensors do not count; a profile has a process of its own."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
