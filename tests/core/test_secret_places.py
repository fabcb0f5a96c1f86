"""What of a settings file may be kept: no password, and no secret that stands in a comment."""

from __future__ import annotations

import tomllib

import pytest

from connector.settings import secret_places


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://u:canary@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:can:ary@h:5432/d?sslmode=require", "postgresql://u:***@h:5432/d?sslmode=require"),
        ("postgresql://u@h/d?sslmode=require&password=canary", "postgresql://u@h/d?sslmode=require&password=***"),
        ("postgresql://h/d?sslpassword=canary&a=b", "postgresql://h/d?sslpassword=***&a=b"),
        ("postgresql://h/d?p%61ssword=canary", "postgresql://h/d?p%61ssword=***"),
        ("postgresql://h/d?oauth_client_secret=canary", "postgresql://h/d?oauth_client_secret=***"),
        ("postgresql://h:5432/d?keepalives=1", "postgresql://h:5432/d?keepalives=1"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_every_password_of_a_store_is_masked(url: str, kept: str) -> None:
    assert secret_places.without_password(url) == kept
    text = f'[store]\nurl = "{url}"\n'
    assert secret_places.shareable(text) == f'[store]\nurl = "{kept}"\n'


@pytest.mark.parametrize(
    ("comment", "kept"),
    [
        ('# url = "postgresql://app:canary@old/d"', '# url = "postgresql://app:***@old/d"'),
        ('# url = "postgresql://app:can ary/@old/d"', '# url = "postgresql://app:***@old/d"'),
        ('# url = "postgresql://old/d?password=canary"', '# url = "postgresql://old/d?password=***'),
        ('# token = "canary"', "# token = ***"),
        ('#token="can \\"ary" # the old one', "#token=*** # the old one"),
        ('    # api_key = "canary", and so on', "    # api_key = ***, and so on"),
        ("# CUSTOMERIO_API_KEY=canary", "# CUSTOMERIO_API_KEY=***"),
        ("# url_key = 'canary'", "# url_key = ***"),
        ("# PGPASSWORD=canary psql", "# PGPASSWORD=***"),
        ('# api_key = "env:canary"', "# api_key = ***"),
        ('# signing_keys = ["env:OLD_KEY", "canary"]', "# signing_keys = ***"),
        ('# write_keys = [\n#   "canary",\n#   "another canary",\n# ]\n# more', "# write_keys = ***\n# more"),
        ('a = "#" # api_key = "canary"', 'a = "#" # api_key = ***'),
    ],
)
def test_a_secret_in_a_comment_is_masked(comment: str, kept: str) -> None:
    assert secret_places.shareable(f"{comment}\n[people]\n{comment}\n") == f"{kept}\n[people]\n{kept}\n"


@pytest.mark.parametrize(
    "text",
    [
        '# signing_keys = ["env:CUSTOMERIO_SIGNING_KEY"]',
        '# api_key = "file:/run/secrets/key"  # or a file',
        "# put it into .env as CUSTOMERIO_SIGNING_KEY=…",
        "# CUSTOMERIO_SIGNING_KEY=",
        '# url = "postgresql://user@host/database"',
        '# "Paying customers" = { attribute = "plan", in = ["pro", "team"] }',
        '# http://localhost:8080 is the address; "#:schema ./settings.schema.json" is for editors',
        '"# token = \\"x" = """\n# token = "x\n"""',
        "b = '''\n# token = 'x'\n'''",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    tomllib.loads(text)
    assert secret_places.shareable(text) == text


def test_a_text_that_is_kept_is_kept_the_same_again() -> None:
    text = '# token = "canary"\n[store]\nurl = "postgresql://u:canary@h/d?sslpassword=canary"\n'
    kept = secret_places.shareable(text)
    assert kept is not None
    assert "canary" not in kept
    assert secret_places.shareable(kept) == kept
