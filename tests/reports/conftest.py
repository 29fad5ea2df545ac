"""Pages opened in one browser a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from browsed import Opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from browsed import launched  # only where it is asked for: other tests need no playwright

    with launched() as made:
        yield made


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a page's file or address; at the end nothing may have failed in it."""
    from browsed import opening

    with opening(browser) as open_file:
        yield open_file
