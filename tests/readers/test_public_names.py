import pytest

import clipshards.readers


def test_every_public_name_is_there() -> None:
    assert sorted(clipshards.readers.__all__) == clipshards.readers.__all__
    for name in clipshards.readers.__all__:
        assert getattr(clipshards.readers, name).__module__.startswith("clipshards.readers.")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = clipshards.readers.nonsense
