"""The folder of a run that is not finished."""

from __future__ import annotations

from pathlib import Path

from equipoise.fleet.core.jobs import Job
from equipoise.fleet.core.unfinished import unfinished_run

JOBS = [Job("validate", "a"), Job("validate", "b", ("--tf32",))]


def test_an_interrupted_run_is_found_again_and_a_finished_one_is_not(tmp_path: Path) -> None:
    parent = tmp_path / "cache" / "matrix"
    run = unfinished_run(parent, JOBS)
    folder = run.__enter__()
    (folder / "done").touch()
    assert not run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with unfinished_run(parent, JOBS[::-1]) as again:
        assert (again, (again / "done").exists()) == (folder, True)
    assert list(parent.iterdir()) == []


def test_other_jobs_have_another_folder(tmp_path: Path) -> None:
    with unfinished_run(tmp_path, JOBS) as one, unfinished_run(tmp_path, JOBS[:1]) as other:
        assert one != other


def test_two_at_the_same_time(tmp_path: Path) -> None:
    """The second does not wait, and the third takes the place of the first, which has ended."""
    first = unfinished_run(tmp_path, JOBS)
    folder = first.__enter__()
    with unfinished_run(tmp_path, JOBS) as second:
        assert second.name == f"{folder.name}-2"
        first.__exit__(None, None, None)
        with unfinished_run(tmp_path, JOBS) as third:
            assert third == folder
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with unfinished_run(tmp_path / "file" / "matrix", JOBS) as folder:
        assert folder.is_dir()
    assert not folder.exists()
