"""What the tests of pages share: the sample town, and a visitor of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from engine import Collection
from testing.app import FRONT_DOOR
from testing.towns import copy_town
from ui.shared import resources


@pytest.fixture(scope="session")
def town(sample_town: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The sample town as the shelf of this process has it; tests may add to it."""
    copy_town(sample_town, tmp_path_factory.getbasetemp() / "pages" / "town")
    opened = resources.shelf().open(resources.shelf().places()["town"])
    assert opened.wait(120)
    with Collection.open(opened.value().place.path) as collection:
        collection.use_encoder(opened.value().collection.encoder)
        yield collection


@pytest.fixture
def visit(town: Collection) -> Callable[..., AppTest]:
    """Open a page with a link: the search page, unless `page` names another one."""

    def opened(page: str = "search", **link: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(FRONT_DOOR), default_timeout=60)
        if page != "search":
            app.switch_page(f"pages/{page}.py")
        app.query_params.update(link)
        assert not app.run().exception
        return app

    return opened
