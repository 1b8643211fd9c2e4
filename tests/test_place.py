"""Where runs lie: URLs of local folders, file systems with folders, stores whose errors are their own."""

import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from run_records import record, write
from tensometer import Monitor, open_run
from tensometer.store import RunWriter, open_place


@pytest.mark.parametrize("protocol", ["file", "local"])
def test_urls_of_local_folders(tmp_path: Path, protocol: str) -> None:
    url = f"{protocol}://{tmp_path}/a/run"
    with Monitor(url, every=1, strict=True) as monitor:
        monitor.step(loss=1.0)
    assert monitor.dropped == 0
    assert open_run(url).steps().tolist() == open_run(tmp_path / "a" / "run").steps().tolist() == [0]
    with pytest.raises(ValueError, match="url: the path is empty"):
        open_place(f"{protocol}://")


def test_writers_in_one_folder_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two of one rank, which is a mistake: each file is one writer's, and whole."""
    writers = [RunWriter(tmp_path, flush_rows=1) for _ in range(2)]

    def work(writer: RunWriter, first: int) -> None:
        for step in range(first, first + 100):
            writer.submit(record(step))

    threads = [threading.Thread(target=work, args=(writer, 100 * n)) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(writer.close() for writer in writers)
    assert all(writer.problems == [] for writer in writers)
    assert sorted(open_run(tmp_path).series("w").steps.tolist()) == list(range(200))


class Folders(LocalFileSystem):
    """As SFTP is: without a way to put a whole file, and with folders that must be made."""

    protocol = "folders"
    written: list[str]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("folders://", ""))

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            self.written.append(path)
        return super().open(path, mode, **options)


class Unreachable(MemoryFileSystem):
    """A store whose errors are no OSErrors."""

    protocol = "unreachable"

    class Error(Exception):
        pass

    def _fails(self, *_: Any, **__: Any) -> Any:
        raise self.Error("could not connect")

    cat_file = ls = pipe_file = _fails


for _kind in (Folders, Unreachable):
    fsspec.register_implementation(_kind.protocol, _kind, clobber=True)


def test_a_file_system_with_folders(tmp_path: Path) -> None:
    Folders.written = []
    url = f"folders://{tmp_path}/run"
    write(url, range(3), flush_rows=1)
    run = open_run(url)
    assert run.steps().tolist() == [0, 1, 2]
    assert run.ended
    # Each was written beside, under a name that readers pass over, and is there whole.
    assert len(Folders.written) == 5
    assert all(Path(path).name.startswith(".") for path in Folders.written)
    assert not list(tmp_path.rglob(".*"))
    place = open_place(url)
    with pytest.raises(FileExistsError):
        place.write("run.json", b"{}")
    assert not list(tmp_path.rglob(".*"))
    place.write("run.json", b"{}", replace=True)
    assert place.read("run.json") == b"{}"


def test_errors_of_a_store_are_errors_of_the_system() -> None:
    place = open_place("unreachable://bucket/run")
    for call in (place.names, lambda: place.read("a"), lambda: place.write("a", b"")):
        with pytest.raises(OSError, match=r"unreachable://bucket/run.*: Error: could not connect"):
            call()
    with pytest.raises(OSError, match="could not connect"):
        open_run("unreachable://bucket/run")
    writer = RunWriter("unreachable://bucket/run")
    with pytest.warns(RuntimeWarning, match="could not connect"):
        assert not writer.close(timeout=0.2)
    assert writer.problems


def test_a_listing_that_misses_a_file_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system's do: it shows a segment, and not the one before it."""
    write(tmp_path, range(3), flush_rows=1)
    run = open_run(tmp_path)
    write(tmp_path, range(3, 6), flush_rows=1)
    listed: list[str] = []
    names = type(run._place).names

    def missing(place: Any, folder: str = "") -> list[str]:
        found = names(place, folder)
        if folder:
            listed.append(folder)
            return [name for name in found if len(listed) > 1 or not name.startswith("000000005")]
        return found

    monkeypatch.setattr(type(run._place), "names", missing)
    run.refresh()
    assert run.steps().tolist() == list(range(6))
    assert len(listed) == 2
