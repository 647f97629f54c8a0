"""Fixtures for all tests. Makers of media are in makers.py, which tests import directly."""

import os
from pathlib import Path

import makers
import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real sample media that stands beside some checkouts.

    Tests that need it are skipped without it, and fail where CLIPSHARDS_NEED_SHARED is 1.
    """
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CLIPSHARDS_NEED_SHARED") == "1":
            pytest.fail("CLIPSHARDS_NEED_SHARED is 1 and ../shared/data is not there")
        pytest.skip("needs the sample media of ../shared/data")
    return folder


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> makers.MediaRoot:
    """Return 16 small videos and their list, shared by all tests: look, do not write."""
    return makers.write_media_root(tmp_path_factory.mktemp("media_root"), 16)
