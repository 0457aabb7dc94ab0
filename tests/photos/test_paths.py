"""Where results go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faces.files import PHOTO_SUFFIXES
from photos.errors import PhotoError
from photos.paths import Job, check_writable, destinations, photos_in


def test_results_of_heic_photos_are_called_jpg_beside_a_jpeg_of_the_same_name(tmp_path: Path) -> None:
    photos = [(tmp_path / name, Path(name)) for name in ("a.HEIC", "a.jpg", "b.hif")]
    out = tmp_path / "out"
    assert destinations(photos, [], out) == [
        Job(photos[0][0], out / "a.HEIC.jpg"), Job(photos[1][0], out / "a.jpg"), Job(photos[2][0], out / "b.hif.jpg"),
    ]  # fmt: skip


def test_existing_results_are_marked_or_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"old")
    (out / "b.jpg").symlink_to("nowhere")
    photos = [(tmp_path / name, Path(name)) for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert [job.exists for job in destinations(photos, [], out, skip_existing=True)] == [True, True, False]
    with pytest.raises(
        PhotoError, match=r"a\.jpg exists already; name another folder with --out, or go on .*--skip-ex"
    ):
        destinations(photos, [], out)


@pytest.mark.parametrize("suffix", PHOTO_SUFFIXES)
def test_every_kind_of_photo_is_found_in_a_folder(tmp_path: Path, suffix: str) -> None:
    for name in ("a" + suffix, "b" + suffix.upper(), "notes.txt", ".hidden" + suffix):
        (tmp_path / name).touch()
    found = photos_in([tmp_path])
    assert [str(place) for _, place in found.photos] == ["a" + suffix, "b" + suffix.upper()]
    assert found.passed_over == ()


def test_an_entry_that_cannot_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    real = Path.is_file

    def refuses(self: Path) -> bool:
        if self.name == "b.jpg":
            raise PermissionError(13, os.strerror(13), str(self))
        return real(self)

    monkeypatch.setattr(Path, "is_file", refuses)
    found = photos_in([tmp_path])
    assert [file.name for file, _ in found.photos] == ["a.jpg"]
    assert [one.reason for one in found.passed_over] == [
        f"{tmp_path}/b.jpg: Permission denied; change the permissions, or choose another folder."
    ]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "deeper")
    (tmp_path / "file").touch()
    with pytest.raises(PhotoError, match="file is a file, not a folder"):
        check_writable(tmp_path / "file" / "deeper")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PhotoError, match="may not be written; change the permissions, or name another place"):
        check_writable(tmp_path / "new")
