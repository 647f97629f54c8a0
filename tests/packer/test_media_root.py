import os
from pathlib import Path

import pytest

from clipshards.packer.format.errors import MediaError, StorageError
from clipshards.packer.media_root import MediaRoot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"inside")
    (folder / "sub" / "b.mp4").write_bytes(b"below")
    (tmp_path / "media-2").mkdir()
    (tmp_path / "media-2" / "c.mp4").write_bytes(b"beside")
    return folder


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.mp4", b"inside"),
        ("sub/b.mp4", b"below"),
        ("./sub//b.mp4", b"below"),
        ("sub/../a.mp4", b"inside"),
        ("nowhere/../a.mp4", b"inside"),
        ("../media/a.mp4", b"inside"),
    ],
)
def test_path_inside_the_root_is_read(root: Path, path: str, data: bytes) -> None:
    assert MediaRoot(root).read(path) == data
    assert MediaRoot(root).size(path) == len(data)


def test_absolute_path_inside_the_root_is_read(root: Path) -> None:
    assert MediaRoot(root).read(f"{root}/a.mp4") == b"inside"


@pytest.mark.parametrize(
    "path", ["../media-2/c.mp4", "sub/../../media-2/c.mp4", "{outside}", "/{outside}", "..", "/"]
)
def test_path_that_leaves_the_root_is_refused(root: Path, path: str) -> None:
    path = path.format(outside=root.parent / "media-2" / "c.mp4")
    with pytest.raises(MediaError, match="leads out of the media root; allow that") as caught:
        MediaRoot(root).read(path)
    assert repr(path) in str(caught.value)
    assert MediaRoot(root).size(path) is None


@pytest.mark.parametrize("path", ["../media-2/c.mp4", "sub/../../media-2/c.mp4", "{outside}"])
def test_path_that_leaves_the_root_is_read_where_that_is_allowed(root: Path, path: str) -> None:
    path = path.format(outside=root.parent / "media-2" / "c.mp4")
    assert MediaRoot(root, allow_outside=True).read(path) == b"beside"
    assert MediaRoot(root, allow_outside=True).size(path) == len(b"beside")


def test_links_inside_the_root_are_followed(root: Path) -> None:
    (root / "link.mp4").symlink_to(root.parent / "media-2" / "c.mp4")
    (root / "folder").symlink_to(root.parent / "media-2")
    assert MediaRoot(root).read("link.mp4") == b"beside"
    assert MediaRoot(root).read("folder/c.mp4") == b"beside"
    assert MediaRoot(root).size("folder/c.mp4") == len(b"beside")


def test_root_that_is_a_link_is_followed(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert MediaRoot(root.parent / "alias").read("sub/b.mp4") == b"below"


def test_relative_root_starts_from_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    assert MediaRoot(Path("media")).read("a.mp4") == b"inside"
    monkeypatch.chdir(root)
    assert MediaRoot(Path()).read("a.mp4") == b"inside"
    assert MediaRoot(Path("..")).read("media-2/c.mp4") == b"beside"


def test_root_of_the_file_system_holds_everything(root: Path) -> None:
    assert MediaRoot(Path("/")).read(f"{root}/a.mp4") == b"inside"


def test_root_with_two_slashes_in_front_is_the_same_folder(root: Path) -> None:
    # The only number of slashes that POSIX lets mean something else, and Python keeps.
    twice = MediaRoot(Path(f"/{root}"))
    assert str(twice.folder).startswith("//")
    assert twice.read("sub/b.mp4") == b"below"
    assert twice.read(f"{root}/a.mp4") == b"inside"
    assert MediaRoot(root).read(f"/{root}/a.mp4") == b"inside"
    assert MediaRoot(Path("//")).read(f"{root}/a.mp4") == b"inside"
    with pytest.raises(MediaError, match="leads out of the media root"):
        twice.read("../media-2/c.mp4")


def test_names_in_both_unicode_forms_are_two_files(root: Path) -> None:
    (root / "\xe9.mp4").write_bytes(b"composed")
    (root / "e\u0301.mp4").write_bytes(b"apart")
    assert MediaRoot(root).read("\xe9.mp4") == b"composed"
    assert MediaRoot(root).read("e\u0301.mp4") == b"apart"


def test_missing_file_is_named(root: Path) -> None:
    with pytest.raises(MediaError, match=r"'sub/x.mp4': no such file under the media root"):
        MediaRoot(root).read("sub/x.mp4")
    assert MediaRoot(root).size("sub/x.mp4") is None


def test_broken_link_is_a_missing_file(root: Path) -> None:
    (root / "broken.mp4").symlink_to("nowhere.mp4")
    with pytest.raises(MediaError, match="no such file"):
        MediaRoot(root).read("broken.mp4")


def test_empty_file_is_refused(root: Path) -> None:
    (root / "empty.mp4").touch()
    with pytest.raises(MediaError, match=r"'empty.mp4': the file is empty \(0 bytes\)"):
        MediaRoot(root).read("empty.mp4")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("sub", "not a regular file"),
        ("a.mp4/x.mp4", "cannot be read: Not a directory"),
        ("n" * 300 + ".mp4", "cannot be read: File name too long"),
        ("loop.mp4", "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_a_video_is_refused(root: Path, path: str, says: str) -> None:
    (root / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(MediaError, match=says):
        MediaRoot(root).read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(root: Path) -> None:
    (root / "a.mp4").chmod(0)
    with pytest.raises(MediaError, match=r"'a\.mp4': cannot be read: Permission denied"):
        MediaRoot(root).read("a.mp4")


def test_file_beyond_a_tar_member_is_refused_unread(root: Path) -> None:
    with (root / "huge.mp4").open("wb") as file:
        file.truncate(8**11)
    with pytest.raises(MediaError, match=r"'huge.mp4': 8589934592 bytes, a tar member holds"):
        MediaRoot(root).read("huge.mp4")


@pytest.mark.parametrize("change", ["longer", "touched"])
def test_file_that_changes_while_it_is_read_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    look = os.fstat

    # What another process does between the first read and the second look.
    def changed(descriptor: int) -> os.stat_result:
        if change == "longer":
            (root / "a.mp4").write_bytes(b"inside and more")
        else:
            os.utime(root / "a.mp4", ns=(1, 1))
        return look(descriptor)

    monkeypatch.setattr(os, "fstat", changed)
    with pytest.raises(MediaError, match=r"'a\.mp4': changed while it was read"):
        MediaRoot(root).read("a.mp4")


def test_root_that_is_gone_is_no_missing_file(root: Path) -> None:
    opened = MediaRoot(root)
    root.rename(root.with_name("away"))
    for look in (lambda: opened.read("a.mp4"), lambda: opened.names("sub")):
        with pytest.raises(StorageError, match=r"the media root .* is gone"):
            look()
