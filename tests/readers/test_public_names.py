import pytest

import clipshards.packer
import clipshards.readers


def test_every_public_name_is_there() -> None:
    assert sorted(clipshards.readers.__all__) == clipshards.readers.__all__
    for name in clipshards.readers.__all__:
        assert getattr(clipshards.readers, name).__module__.startswith("clipshards.readers.")
    # What an editor offers.
    assert dir(clipshards.readers) == clipshards.readers.__all__
    assert dir(clipshards.packer) == clipshards.packer.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = clipshards.readers.nonsense
