"""What every storage promises, and what the local one promises beside."""

import gc
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clipshards.packer.format.checksums import crc32c
from clipshards.packer.format.errors import NotFoundError, StorageError
from clipshards.packer.storage import Storage, Stored, open_storage
from clipshards.packer.storage.local import LocalStorage

STAGING = "train/.build"

Open = Callable[[], Storage]


@pytest.fixture(params=["local", "s3"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return a function that opens one empty location anew at each call."""
    if request.param == "s3":
        location = request.getfixturevalue("s3_location")
    else:
        location = str(tmp_path / "location")
    return lambda: open_storage(location)


@pytest.fixture
def storage(open_again: Open) -> Storage:
    return open_again()


class TestEveryStorage:
    """The contract of `Storage`: runs with each kind of location."""

    def test_empty_location_holds_nothing(self, storage: Storage) -> None:
        assert storage.folders() == []
        assert list(storage.sizes("train")) == []
        assert storage.size("train/a") is None

    def test_what_is_put_is_read_back(self, storage: Storage, open_again: Open) -> None:
        data = os.urandom(300_000)
        storage.put("train/a", data, staging=STAGING)
        for opened in (storage, open_again()):
            assert opened.read_all("train/a") == data
            assert opened.size("train/a") == len(data)

    @pytest.mark.parametrize("size", [0, 5, 17 * 2**20])
    def test_store_knows_size_and_checksum_of_what_was_written(
        self, storage: Storage, open_again: Open, size: int
    ) -> None:
        assert storage.stored("train/a") is None
        data = random.Random(size).randbytes(size)
        with storage.writer("train/a", staging=STAGING) as write:
            write(data)
        storage.put("train/b", data, staging=STAGING)
        for name in ("train/a", "train/b"):
            expected = Stored(size, crc32c(data) if storage.far else None)
            assert open_again().stored(name) == expected

    @pytest.mark.parametrize("size", [0, 1, 511, 2**20 + 1])
    def test_sizes_from_nothing_up(self, storage: Storage, size: int) -> None:
        data = bytes(size)
        storage.put("train/a", data, staging=STAGING)
        assert storage.read_all("train/a") == data
        assert storage.size("train/a") == size
        assert storage.read("train/a", 0, size) == data

    @pytest.mark.parametrize(
        ("offset", "size", "expected"),
        [
            (0, 10, b"0123456789"),
            (3, 4, b"3456"),
            (9, 1, b"9"),
            (0, 0, b""),
            (5, 0, b""),
            (8, 5, b"89"),
            (0, 1000, b"0123456789"),
            (10, 1, b""),
            (5000, 1, b""),
        ],
    )
    def test_ranges_end_where_the_file_ends(
        self, storage: Storage, offset: int, size: int, expected: bytes
    ) -> None:
        storage.put("train/a", b"0123456789", staging=STAGING)
        assert storage.read("train/a", offset, size) == expected

    def test_reading_what_is_not_there_is_an_error_with_its_name(self, storage: Storage) -> None:
        where = re.escape(f"{storage.url}/train/a")
        with pytest.raises(StorageError, match=where):
            storage.read("train/a", 0, 1)
        with pytest.raises(StorageError, match=where):
            storage.read_all("train/a")

    def test_names_are_those_of_files_in_order(self, storage: Storage) -> None:
        for name in ("b", "a", "C", "a.tar", "\xe9"):
            storage.put(f"train/{name}", b"", staging=STAGING)
        storage.put("train/deeper/x", b"", staging="train/deeper")
        storage.put("val/x", b"", staging="val/.build")
        assert list(storage.sizes("train")) == ["C", "a", "a.tar", "b", "\xe9"]
        assert list(storage.sizes("val")) == ["x"]

    def test_folders_are_those_in_the_location_in_order(self, storage: Storage) -> None:
        for name in ("val", "test", "train"):
            storage.put(f"{name}/manifest.json", b"", staging=f"{name}/.build")
        storage.put("train.wids.json", b"", staging=STAGING)
        assert storage.folders() == ["test", "train", "val"]

    def test_put_replaces(self, storage: Storage, open_again: Open) -> None:
        storage.put("train/a", b"old and long", staging=STAGING)
        storage.put("train/a", b"new", staging=STAGING)
        assert storage.read_all("train/a") == b"new"
        assert storage.size("train/a") == 3
        assert open_again().read("train/a", 0, 100) == b"new"

    def test_replaced_file_is_read_anew(self, storage: Storage) -> None:
        storage.put("train/a", b"old", staging=STAGING)
        assert storage.read("train/a", 0, 100) == b"old"
        storage.put("train/a", b"newer", staging=STAGING)
        assert storage.read("train/a", 0, 100) == b"newer"

    def test_removed_file_is_read_no_more(self, storage: Storage) -> None:
        storage.put("train/a", b"old", staging=STAGING)
        assert storage.read("train/a", 0, 100) == b"old"
        storage.remove("train/a")
        with pytest.raises(StorageError):
            storage.read("train/a", 0, 100)

    def test_put_new_makes_once(self, storage: Storage) -> None:
        assert storage.put_new("train/plan", b"first", staging=STAGING) is True
        assert storage.put_new("train/plan", b"second", staging=STAGING) is False
        assert storage.read_all("train/plan") == b"first"

    def test_put_new_makes_once_among_many(self, open_again: Open) -> None:
        barrier = threading.Barrier(8)

        def make(number: int) -> bool:
            opened = open_again()
            barrier.wait(30)
            return opened.put_new("train/plan", b"%d" % number * 100, staging=STAGING)

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, range(8)))
        assert made.count(True) == 1
        assert open_again().read_all("train/plan") == b"%d" % made.index(True) * 100

    def test_writer_joins_its_pieces(self, storage: Storage) -> None:
        with storage.writer("train/a", staging=STAGING) as write:
            for number in range(10):
                write(b"%d" % number * 1000)
            write(b"")
        expected = b"".join(b"%d" % number * 1000 for number in range(10))
        assert storage.read_all("train/a") == expected

    def test_writer_shows_nothing_before_its_end(self, storage: Storage, open_again: Open) -> None:
        with storage.writer("train/a", staging=STAGING) as write:
            write(bytes(2**20))
            assert open_again().size("train/a") is None
            assert list(open_again().sizes("train")) == []
        assert open_again().size("train/a") == 2**20

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("before", [None, b"before"])
    def test_exception_in_a_writer_changes_nothing(
        self, storage: Storage, before: bytes | None, error: type[BaseException]
    ) -> None:
        if before is not None:
            storage.put("train/a", before, staging=STAGING)

        def write_half() -> None:
            with storage.writer("train/a", staging=STAGING) as write:
                write(bytes(1000))
                raise error

        with pytest.raises(error):
            write_half()
        assert storage.size("train/a") == (None if before is None else len(before))
        assert list(storage.sizes("train")) == ([] if before is None else ["a"])
        assert list(storage.sizes(STAGING)) == []

    def test_nothing_is_left_in_the_staging_folder(self, storage: Storage) -> None:
        storage.put("train/a", b"1", staging=STAGING)
        storage.put_new("train/b", b"2", staging=STAGING)
        storage.put_new("train/b", b"3", staging=STAGING)
        assert list(storage.sizes(STAGING)) == []

    def test_remove_removes_one_file(self, storage: Storage) -> None:
        storage.put("train/a", b"1", staging=STAGING)
        storage.put("train/b", b"2", staging=STAGING)
        storage.remove("train/a")
        storage.remove("train/a")
        storage.remove("nowhere/a")
        assert list(storage.sizes("train")) == ["b"]

    def test_remove_folder_removes_all_in_it(self, storage: Storage) -> None:
        storage.put("train/a", b"1", staging=STAGING)
        storage.put(f"{STAGING}/plan.json", b"2", staging=STAGING)
        storage.remove_folder(STAGING)
        storage.remove_folder(STAGING)
        assert list(storage.sizes(STAGING)) == []
        assert list(storage.sizes("train")) == ["a"]
        storage.remove_folder("train")
        # SeaweedFS shows an emptied folder for a while, which S3 does not.
        assert not any(storage.sizes(folder) for folder in storage.folders())

    @pytest.mark.parametrize(
        "name", ["", "/", "..", ".", "../x", "a/../../x", "a/..", "./a", "a//b", "/a", "a/", "a\0b"]
    )
    def test_name_that_leaves_the_location_is_a_wrong_argument(
        self, storage: Storage, name: str
    ) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: storage.read(name, 0, 1),
            lambda: storage.read_all(name),
            lambda: storage.size(name),
            lambda: storage.sizes(name),
            lambda: storage.put(name, b"", staging=STAGING),
            lambda: storage.put("train/a", b"", staging=name),
            lambda: storage.put_new(name, b"", staging=STAGING),
            lambda: storage.put_new("train/a", b"", staging=name),
            lambda: storage.writer(name, staging=STAGING).__enter__(),
            lambda: storage.remove(name),
            lambda: storage.remove_folder(name),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="is not a name inside"):
                call()
        assert storage.folders() == []

    def test_pickled_storage_reads_the_same(self, storage: Storage) -> None:
        storage.put("train/a", b"0123456789", staging=STAGING)
        storage.read("train/a", 0, 1)
        again = pickle.loads(pickle.dumps(storage))
        assert again.read("train/a", 2, 3) == b"234"
        again.put("train/b", b"new", staging=STAGING)
        assert storage.read_all("train/b") == b"new"

    def test_storage_works_behind_a_fork(self, storage: Storage) -> None:
        storage.put("train/a", b"0123456789", staging=STAGING)
        assert storage.read("train/a", 0, 3) == b"012"
        child = os.fork()
        if not child:
            # In the child, and never back into pytest.
            fine = storage.read("train/a", 3, 4) == b"3456"
            storage.put("train/b", b"of the child", staging=STAGING)
            os._exit(0 if fine else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert storage.read("train/a", 7, 9) == b"789"
        assert storage.read_all("train/b") == b"of the child"

    def test_threads_read_what_they_ask_for(self, storage: Storage) -> None:
        for number in range(40):
            storage.put(f"train/{number}", b"%04d" % number * 5000, staging=STAGING)
        # A request to a store takes a hundred times as long.
        step = 70 if storage.far else 7

        def check(seed: int) -> bool:
            return all(
                storage.read(f"train/{n % 40}", 4 * (n % 100), 8) == b"%04d" % (n % 40) * 2
                for n in range(seed, seed + 3000, step)
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(check, range(16)))


def open_descriptors(folder: Path) -> int:
    """Return how many files under a folder this process holds open."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += str(folder) in str(link.readlink())
        except FileNotFoundError:
            continue
    return count


# A process that may open few files, in which 8 threads read 100.
FEW_FILES = """
import os, resource, sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from clipshards.packer.storage import open_storage

resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
folder = sys.argv[1]
local = open_storage(folder)

def check(number):
    return local.read(f"train/{number}", 0, 9) == b"%d" % number

with ThreadPoolExecutor(8) as pool:
    assert all(pool.map(check, list(range(100)) * 10))
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(80)]
    assert sum(name.startswith(folder) for name in opened) == 20, opened

# Somebody else opens all that is left.
with suppress(OSError):
    while True:
        os.open("/dev/null", os.O_RDONLY)
assert all(check(number) for number in range(100))
"""


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writes fail behind `size` bytes of a file, in their middle, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestLocalStorage:
    """What a folder as storage does beside the contract."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "location"

    @pytest.fixture
    def local(self, folder: Path) -> Storage:
        return open_storage(folder)

    def test_nothing_is_made_by_opening(self, folder: Path, local: Storage) -> None:
        local.sizes("train")
        local.folders()
        assert not folder.exists()

    def test_files_stand_under_their_names(self, folder: Path, local: Storage) -> None:
        local.put("train/a b.tar", b"1", staging=STAGING)
        assert (folder / "train" / "a b.tar").read_bytes() == b"1"

    def test_url_is_what_the_user_wrote(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert open_storage("some/where").url == "some/where"
        assert open_storage(Path("some/where")).url == "some/where"

    def test_relative_location_stays_where_it_was_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        local = open_storage("here")
        (tmp_path / "away").mkdir()
        monkeypatch.chdir(tmp_path / "away")
        local.put("train/a", b"1", staging=STAGING)
        assert (tmp_path / "here" / "train" / "a").exists()
        assert pickle.loads(pickle.dumps(local)).read_all("train/a") == b"1"

    def test_address_of_another_kind_is_refused(self) -> None:
        with pytest.raises(ValueError, match="gs://bucket/x: expected a folder or s3://"):
            open_storage("gs://bucket/x")

    def test_no_descriptor_is_leaked_however_many_files_are_read(
        self, folder: Path, local: Storage
    ) -> None:
        for number in range(300):
            local.put(f"train/{number}", b"%d" % number, staging=STAGING)
        assert open_descriptors(folder) == 0
        for _ in range(2):
            for number in range(300):
                assert local.read(f"train/{number}", 0, 9) == b"%d" % number
        assert 0 < open_descriptors(folder) <= 300
        assert local.read("train/7", 0, 9) == b"7"

    def test_few_files_are_kept_open_where_few_may_be(self, folder: Path, local: Storage) -> None:
        for number in range(100):
            local.put(f"train/{number}", b"%d" % number, staging=STAGING)
        subprocess.run([sys.executable, "-c", FEW_FILES, str(folder)], check=True)

    def test_descriptors_close_with_the_storage(self, folder: Path) -> None:
        local = LocalStorage(str(folder))
        for number in range(20):
            local.put(f"train/{number}", b"%d" % number, staging=STAGING)

        def read_all(storage: Storage) -> None:
            for number in range(20):
                storage.read(f"train/{number}", 0, 9)

        read_all(local)
        thread = threading.Thread(target=read_all, args=[local])
        thread.start()
        thread.join()
        gc.collect()
        assert open_descriptors(folder) == 20
        del local
        gc.collect()
        assert open_descriptors(folder) == 0

    def test_failed_reads_leave_nothing_open(self, folder: Path, local: Storage) -> None:
        local.put("train/a", b"", staging=STAGING)
        for _ in range(3):
            with pytest.raises(StorageError, match="train/none: No such file"):
                local.read("train/none", 0, 1)
        assert open_descriptors(folder) == 0

    def test_folder_is_no_file(self, folder: Path, local: Storage) -> None:
        (folder / "train").mkdir(parents=True)
        assert local.size("train") is None
        where = re.escape(f"{folder}/train: ")
        for call in (
            lambda: local.read("train", 0, 1),
            lambda: local.read_all("train"),
            lambda: local.put("train", b"", staging="val/.build"),
            lambda: local.remove("train"),
        ):
            with pytest.raises(StorageError, match=where):
                call()
        assert (folder / "train").is_dir()
        assert list(local.sizes("val/.build")) == []

    def test_file_is_no_folder(self, folder: Path, local: Storage) -> None:
        folder.mkdir()
        (folder / "train").write_bytes(b"in the way")
        for call in (
            lambda: local.put("train/a", b"", staging=STAGING),
            lambda: local.put_new("train/a", b"", staging=STAGING),
            lambda: local.sizes("train"),
            lambda: local.read("train/a", 0, 1),
            lambda: local.read_all("train/a"),
        ):
            with pytest.raises(StorageError, match="Not a directory"):
                call()
        assert local.size("train/a") is None
        assert (folder / "train").read_bytes() == b"in the way"

    def test_location_that_is_a_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        local = open_storage(tmp_path / "file")
        calls: list[Callable[[], Any]] = [
            lambda: local.folders(),
            lambda: local.sizes("train"),
            lambda: local.read("train/a", 0, 1),
            lambda: local.read_all("train/a"),
            lambda: local.put("train/a", b"", staging=STAGING),
            lambda: local.put_new("train/a", b"", staging=STAGING),
        ]
        for call in calls:
            with pytest.raises(NotFoundError, match=re.escape(f"{tmp_path}/file: this is a file")):
                call()

    def test_errors_while_a_writer_is_left_are_of_the_storage(
        self, folder: Path, local: Storage
    ) -> None:
        def close_below() -> None:
            with local.writer("train/a", staging=STAGING):
                for link in Path("/proc/self/fd").iterdir():
                    if str(folder) in os.path.realpath(link):
                        os.close(int(link.name))

        def put_a_file_in_the_way() -> None:
            with local.writer("train/a", staging=STAGING):
                shutil.rmtree(folder / STAGING)
                (folder / STAGING).write_bytes(b"in the way")

        for work, says in (
            (close_below, "Bad file descriptor"),
            (put_a_file_in_the_way, "Not a directory"),
        ):
            with pytest.raises(StorageError, match=f"train/a: {says}"):
                work()
            assert local.size("train/a") is None
            assert open_descriptors(folder) == 0

    def test_full_disk_leaves_the_old_file(self, folder: Path, local: Storage) -> None:
        local.put("train/a", b"before", staging=STAGING)
        with largest_file(1000), pytest.raises(StorageError, match="train/a: File too large"):
            local.put("train/a", bytes(5000), staging=STAGING)
        assert local.read_all("train/a") == b"before"
        assert list(local.sizes(STAGING)) == []

    def test_full_disk_makes_nothing_new(self, folder: Path, local: Storage) -> None:
        with largest_file(1000), pytest.raises(StorageError, match="train/a: File too large"):
            local.put_new("train/a", bytes(5000), staging=STAGING)
        assert local.size("train/a") is None
        assert list(local.sizes(STAGING)) == []

    def test_pipes_and_broken_links_are_neither_files_nor_folders(
        self, folder: Path, local: Storage
    ) -> None:
        folder.mkdir()
        os.mkfifo(folder / "pipe")
        (folder / "broken").symlink_to("nowhere")
        (folder / "train").mkdir()
        (folder / "link").symlink_to("train")
        (folder / "train" / "a").symlink_to(folder / "train" / "b")
        (folder / "train" / "b").write_bytes(b"1")
        os.mkfifo(folder / "train" / "pipe")
        assert local.folders() == ["link", "train"]
        assert list(local.sizes("train")) == ["a", "b"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_folder_without_permission_is_named(self, folder: Path, local: Storage) -> None:
        local.put("train/a", b"1", staging=STAGING)
        (folder / "train").chmod(0o555)
        try:
            with pytest.raises(StorageError, match="train/b: Permission denied"):
                local.put("train/b", b"", staging="val/.build")
        finally:
            (folder / "train").chmod(0o755)

    def test_folder_that_two_remove_at_a_time_goes_whole(
        self, folder: Path, local: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b", "c"):
            local.put(f"train/{name}", b"12", staging=STAGING)
        unlink = os.unlink

        def unlink_late(path: str, **more: Any) -> None:
            # The other one comes first, once.
            monkeypatch.undo()
            unlink(path, **more)
            unlink(path, **more)

        monkeypatch.setattr(os, "unlink", unlink_late)
        local.remove_folder("train")
        assert not (folder / "train").exists()

    def test_file_that_goes_while_a_folder_is_listed_is_left_out(
        self, folder: Path, local: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b"):
            local.put(f"train/{name}", b"12", staging=STAGING)
        scan = os.scandir

        class Vanishing:
            """Entries of which one is gone when it is looked at."""

            def __init__(self, path: Path) -> None:
                with scan(path) as entries:
                    self.entries = list(entries)
                (folder / "train" / "a").unlink()

            def __iter__(self) -> Iterator[Any]:
                return iter(self.entries)

            def __enter__(self) -> None:
                pass

            def __exit__(self, *_: object) -> None:
                pass

        monkeypatch.setattr(os, "scandir", Vanishing)
        assert local.sizes("train") == {"b": 2}

    @pytest.mark.parametrize("new", [False, True])
    def test_a_file_reaches_the_disk_before_its_name_and_the_name_before_the_end(
        self, new: bool, local: LocalStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = Path(local.url) / "train"
        synced: list[tuple[str, int, bool]] = []

        def note(descriptor: int) -> None:
            target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
            kind = "folder" if target == folder else "file"
            synced.append((kind, os.fstat(descriptor).st_size, (folder / "a").exists()))

        monkeypatch.setattr(os, "fsync", note)
        if new:
            assert local.put_new("train/a", b"whole", staging=STAGING)
        else:
            local.put("train/a", b"whole", staging=STAGING)
        (of_file, *_, of_folder) = synced
        assert of_file == ("file", 5, False)
        assert (of_folder[0], of_folder[2]) == ("folder", True)
