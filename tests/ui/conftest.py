"""What the tests of pages share: the real sample town, and a visitor of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from engine.datasets.sample_town import sample_collection
from testing.app import FRONT_DOOR
from ui.shared import resources


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The sample town, built once for all tests that look at pages."""
    folder = tmp_path_factory.getbasetemp() / "town"
    with sample_collection(folder) as collection:
        resources.shelf().open(resources.shelf().places()["town"]).wait(120)
        yield collection


@pytest.fixture
def visit(town: Collection) -> Any:
    """Open the search page with a link."""

    def opened(**link: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
        app.query_params.update(link)
        assert not app.run().exception
        return app

    return opened
