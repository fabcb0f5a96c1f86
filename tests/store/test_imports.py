"""How far an import has come is known after an interruption, for a while."""

from __future__ import annotations

from datetime import timedelta

from connector.store import imports
from connector.store.database import Database
from tests.store.given import NOW


def test_an_import_goes_on_where_it_was_until_it_is_finished(db: Database) -> None:
    assert db.write(imports.begin, "file", NOW, anew=False) == 0
    for rows in (1000, 3500):
        db.write(imports.advance, "file", rows, NOW)
    db.write(imports.advance, "other", 7, NOW)
    assert db.write(imports.begin, "file", NOW, anew=False) == 3500
    db.write(imports.finish, "file")
    assert db.write(imports.begin, "file", NOW, anew=False) == 0
    assert db.write(imports.begin, "other", NOW, anew=False) == 7


def test_beginning_anew_forgets_this_file_alone(db: Database) -> None:
    db.write(imports.advance, "file", 1000, NOW)
    db.write(imports.advance, "other", 7, NOW)
    assert db.write(imports.begin, "file", NOW, anew=True) == 0
    assert db.write(imports.begin, "file", NOW, anew=False) == 0
    assert db.write(imports.begin, "other", NOW, anew=False) == 7


def test_an_old_interruption_is_forgotten(db: Database) -> None:
    db.write(imports.advance, "file", 1000, NOW)
    assert db.write(imports.begin, "file", NOW + imports.KEPT, anew=False) == 1000
    assert db.write(imports.begin, "file", NOW + imports.KEPT + timedelta(seconds=1), anew=False) == 0
