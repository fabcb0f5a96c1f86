"""The settings file: each fault in its own words, at its place; references; the example."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from connector import settings_file
from connector.errors import Misconfigured
from connector.settings import Delete, Settings, secret_places
from connector.settings_file import lines as settings_lines

EXAMPLE = Path(__file__).parents[2] / "settings.example.toml"
ENVIRON = {"KEY": "key-1", "EMPTY": ""}


def load(folder: Path, text: str | bytes) -> Settings:
    path = folder / "settings.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return settings_file.load(path, ENVIRON)


def faults(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(Misconfigured) as refused:
        load(folder, text)
    return [str(fault) for fault in refused.value.faults]


ONE_FAULT = {
    # Unknown and misplaced keys
    "unknown key": (
        '[server]\nhots = "x"',
        'line 2: server.hots: unknown key; did you mean "host"?',
    ),
    "unknown key like no other": (
        "[sync]\nzzzzzz = 1",
        "line 2: sync.zzzzzz: unknown key; known here: paused, every, latency",
    ),
    "unknown table": ("[custmerio]", 'line 1: custmerio: unknown key or table; did you mean "customerio"?'),
    "key under the wrong table": (
        '[customerio]\nsigning_keys = ["env:KEY"]',
        "line 2: customerio.signing_keys: unknown key here, it belongs to [webhooks]",
    ),
    "nearly a key of another table": (
        "[customerio]\nsigning_key = []",
        'line 2: customerio.signing_key: unknown key; did you mean "signing_keys", which belongs to [webhooks]?',
    ),
    "key at the top": (
        'site_id = "x"',
        "line 1: site_id: unknown key here, it belongs to [customerio]",
    ),
    "unknown key of a picked attribute": (
        '[people]\nattributes = [\n  "plan",\n  { name = "a", ass = "b" },\n]',
        'line 4: people.attributes[1].ass: unknown key; did you mean "as"?',
    ),
    "a fact that Customer.io doesn't report": (
        '[segments]\na = { attribute = "customerio.open_at", exists = true }',
        'line 2: segments.a.attribute: nothing of that name is learnt from Customer.io; did you mean "opened_at"?',
    ),
    "a fact that is like no other": (
        '[segments]\na = { attribute = "customerio.xyz", exists = true }',
        (
            "line 2: segments.a.attribute: nothing of that name is learnt from Customer.io, but `synced_at`, "
            "`delivered_at`, `opened_at`, `clicked_at`, `bounced_at`, `spammed_at`"
        ),
    ),
    "a kind of webhook": (
        '[webhooks]\nignore = ["drafted"]',
        'line 2: webhooks.ignore: must be kinds such as "email.drafted" or "*.drafted"; "drafted" is none',
    ),
    "a name for no kind": (
        '[webhooks.names]\n"clicked" = "Clicked"',
        'line 2: webhooks.names.clicked: is no kind: object type, dot, metric, as in "email.clicked"',
    ),
    "a name that is none": (
        '[webhooks.names]\n"email.clicked" = " "',
        'line 2: webhooks.names."email.clicked": must be a name of 1 to 200 characters, without line breaks',
    ),
    # Types and ranges
    "text for a number": ('[server]\nport = "80"', "line 2: server.port: must be a whole number, is text"),
    "fraction for a whole number": (
        "[customerio]\nin_flight = 1.5",
        "line 2: customerio.in_flight: must be a whole number, is a number with a fraction",
    ),
    "number for text": ("[server]\nhost = 1", "line 2: server.host: must be text in quotes, is a whole number"),
    "text for true or false": (
        '[people]\nrequire_email = "yes"',
        "line 2: people.require_email: must be true or false, is text",
    ),
    "text for a list": ('[people]\nsegments = "a"', "line 2: people.segments: must be a list, is text"),
    "date for text": ("[log]\nlevel = 2024-01-01", 'line 2: log.level: must be "debug", "info", "warning" or "error"'),
    "date": ("[server]\nhost = 2024-01-01", "line 2: server.host: must be text in quotes, is a date"),
    "time": ("[server]\nhost = 10:00:00", "line 2: server.host: must be text in quotes, is a time"),
    "moment": (
        "[server]\nhost = 2024-01-01T10:00:00Z",
        "line 2: server.host: must be text in quotes, is a date with a time",
    ),
    "true for a number": ("[server]\nport = true", "line 2: server.port: must be a whole number, is true"),
    "value for a table": ("server = 1", "line 1: server: must be a table, is a whole number"),
    "choice": ('[customerio]\nregion = "uk"', 'line 2: customerio.region: must be "us" or "eu"'),
    "too high": ("[server]\nport = 65536", "line 2: server.port: must be 65535 or less, is 65536"),
    "too low": (
        "[people]\nmax_attributes_per_call = 0",
        "line 2: people.max_attributes_per_call: must be 1 or more, is 0",
    ),
    "not above zero": (
        "[customerio]\nrate_per_second = 0",
        "line 2: customerio.rate_per_second: must be more than 0, is 0",
    ),
    "infinite": (
        "[customerio]\nrate_per_second = inf",
        "line 2: customerio.rate_per_second: must be a number, is not a finite number",
    ),
    "limit": (
        '[guard]\nmax_creates = "many"',
        'line 2: guard.max_creates: must be a whole number or "unlimited"',
    ),
    "duration": (
        '[sync]\nevery = "5 minutes"',
        'line 2: sync.every: must be a duration such as "500ms", "1s", "5m", "24h" or "7d", is another text',
    ),
    "duration, or forever": (
        '[store]\nevents = "ever"',
        'line 2: store.events: must be "forever" or a duration such as "400d"',
    ),
    "events that are kept too short": (
        '[store]\nevents = "29d"',
        ('line 2: store.events: must be "forever" or at least 30d: by an event that is stored its repeats are known'),
    ),
    "events that are deleted while they would be sent": (
        '[store]\nevents = "59d"\n[events]\nmax_age = "60d"',
        (
            'line 2: store.events: must be "forever" or at least 60d: as long as events.max_age, or one that comes '
            "once more would be sent again"
        ),
    ),
    "events that go before their webhooks": (
        '[store]\nevents = "59d"\nwebhook_bodies = "60d"',
        (
            'line 2: store.events: must be "forever" or at least 60d: as long as store.webhook_bodies, or the raw '
            "webhook would outlive what was read from it"
        ),
    ),
    "segment that looks back further than events are kept": (
        '[store]\nevents = "90d"\n[segments]\na = { none = [{ event = "Bought", within = "91d" }] }',
        "line 4: segments.a.none[0].within: must be at most 90d: store.events keeps events no longer",
    ),
    "segment that counts events ever, where they are kept a while": (
        '[store]\nevents = "90d"\n[segments]\na = { event = "Bought" }',
        (
            "line 4: segments.a: counts all events ever, and store.events keeps them for 90d: give it a `within` of "
            "at most that"
        ),
    ),
    "URL": (
        '[server]\npublic_url = "connector.example.com"',
        'line 2: server.public_url: must be a URL such as "https://connector.example.com"',
    ),
    "URL with a password": (
        '[customerio]\ntrack_url = "https://u:canary@h"',
        "line 2: customerio.track_url: must not hold a user name or a password",
    ),
    "URL with a bad port": (
        '[customerio]\ntrack_url = "http://h:x"',
        'line 2: customerio.track_url: must be a URL such as "https://connector.example.com"',
    ),
    "store URL": (
        '[store]\nurl = "mysql://u:canary@h/d"',
        'line 2: store.url: must be a URL such as "sqlite:///connector.db" or "postgresql://user@host/database"',
    ),
    "host": ('[server]\nhost = ""', "line 2: server.host: must be a host name or an IP address"),
    "time zone": (
        '[people]\ntimezone = "Europe/Pari"',
        'line 2: people.timezone: must be the name of a time zone; did you mean "Europe/Paris"?',
    ),
    "time zone outside of the folder": (
        '[people]\ntimezone = "../etc/passwd"',
        'line 2: people.timezone: must be the name of a time zone, such as "Europe/Paris"',
    ),
    "customer id": (
        '[people]\ncustomer_id = "a..b"',
        "line 2: people.customer_id: must be the name of an attribute, with no empty part between its dots",
    ),
    "no customer id": ("[people]\ncustomer_id = []", "line 2: people.customer_id: must hold at least one entry"),
    "site id as a reference": (
        '[customerio]\nsite_id = "env:KEY"',
        "line 2: customerio.site_id: is no secret: write the site id itself",
    ),
    # Segments
    "unknown segment": (
        '[people]\nsegments = [\n  "Paying",\n  "Payng",\n]\n[segments]\nPaying = { everyone = true }',
        'line 4: people.segments[1]: no segment is called "Payng"; did you mean "Paying"?',
    ),
    "segment twice": (
        '[people]\nsegments = ["a", "a"]\n[segments]\na = { everyone = true }',
        'line 2: people.segments[1]: "a" is listed twice',
    ),
    "deep in a segment": (
        '[segments]\n"Paying customers" = { all = [\n  { attribute = "plan", gt = "x" },\n] }',
        'line 3: segments."Paying customers".all[0].gt: must be a number, is text',
    ),
    "segment as a table of its own": (
        (
            '[segments."a b"]\n\n[[segments."a b".any]]\nattribute = "x"\nis = 1\n'
            '[[segments."a b".any]]\nattribute = "x"\nis = []'
        ),
        'line 8: segments."a b".any[1].is: must be text, a number, true or false, is a list',
    ),
    "empty condition": (
        "[segments]\na = {}",
        (
            "line 2: segments.a: must hold one of `all`, `any`, `none`, `attribute`, `event`, `segment`, `everyone`, "
            'as in { attribute = "plan", is = "pro" }'
        ),
    ),
    "two kinds of condition": (
        "[segments]\na = { everyone = true, any = [] }",
        (
            "line 2: segments.a.any: a condition holds one of `all`, `any`, `none`, `attribute`, `event`, "
            "`segment`, `everyone`; this one holds `everyone` already"
        ),
    ),
    "attribute without an operator": (
        '[segments]\na = { attribute = "x" }',
        (
            "line 2: segments.a: `attribute` goes with one of `is`, `is_not`, `in`, `not_in`, `contains`, "
            "`starts_with`, `ends_with`, `exists`, `gt`, `gte`, `lt`, `lte`, `within`, `not_within`, `within_next`"
        ),
    ),
    "attribute that is no name": (
        "[segments]\na = { attribute = 1, is = 1 }",
        "line 2: segments.a.attribute: must be text in quotes, is a whole number",
    ),
    "two operators": (
        '[segments]\na = { attribute = "x", gt = 1, lt = 5 }',
        "line 2: segments.a.lt: compares with `gt` already; put the second comparison into its own condition",
    ),
    "operator of a group": (
        "[segments]\na = { all = [{ everyone = true }], is = 1 }",
        "line 2: segments.a.is: `is` compares an `attribute`, it does not go with `all`",
    ),
    "operator without an attribute": (
        "[segments]\na = { is = 1 }",
        'line 2: segments.a: `is` needs an `attribute` to compare, as in { attribute = "plan", is = "pro" }',
    ),
    "unknown operator": (
        '[segments]\na = { attribute = "x", start_with = "a" }',
        'line 2: segments.a.start_with: unknown key; did you mean "starts_with"?',
    ),
    "event without a name": (
        "[segments]\na = { event = true }",
        "line 2: segments.a.event: must be text in quotes, is true",
    ),
    "event with a name that none has": (
        f'[segments]\na = {{ event = "{"x" * 201}" }}',
        "line 2: segments.a.event: must be a name of 1 to 200 characters",
    ),
    "event counted twice": (
        '[segments]\na = { event = "Bought", at_least = 1, at_most = 5 }',
        "line 2: segments.a.at_most: counts with `at_least` already; put the second count into its own condition",
    ),
    "names of events": (
        '[events]\nnames = [\n  "Order *",\n  "",\n]',
        (
            'line 4: events.names[1]: must be a name such as "Order Completed", a pattern such as "Order *", '
            '"page" or "screen", without line breaks'
        ),
    ),
    "events named twice": (
        '[events]\nnames = [\n  "Order *",\n  "page",\n  "Order *",\n]',
        'line 5: events.names[2]: "Order *" is listed twice',
    ),
    "URLs of pages": (
        '[events]\npages = ["/pricing*", " "]',
        (
            "line 2: events.pages[1]: must be the URL of a page, or a pattern such as "
            '"https://shop.example.com/pricing*", without line breaks'
        ),
    ),
    "limit of events": (
        '[guard]\nmax_events_per_user = "none"',
        'line 2: guard.max_events_per_user: must be a whole number or "unlimited"',
    ),
    "events counted from none": (
        '[segments]\na = { event = "Bought", at_least = 0 }',
        "line 2: segments.a.at_least: must be 1 to 1,000,000, is 0",
    ),
    "events counted by halves": (
        '[segments]\na = { event = "Bought", at_most = 1.5 }',
        "line 2: segments.a.at_most: must be a whole number, is a number with a fraction",
    ),
    "time of events": (
        '[segments]\na = { event = "Bought", within = "a month" }',
        ('line 2: segments.a.within: must be a duration such as "500ms", "1s", "5m", "24h" or "7d", is another text'),
    ),
    "filter of events that is none": (
        '[segments]\na = { event = "Bought", where = { property = "total", gt = 20 } }',
        ('line 2: segments.a.where: must be a list of conditions such as { property = "total", gt = 20 }, is a table'),
    ),
    "filter by an attribute": (
        '[segments]\na = { event = "Bought", where = [{ attribute = "total", gt = 20 }] }',
        ('line 2: segments.a.where[0]: must be a condition on a property such as { property = "total", gt = 20 }'),
    ),
    "filter by a property and more": (
        '[segments]\na = { event = "Bought", where = [{ property = "total", gt = 20, any = [] }] }',
        "line 2: segments.a.where[0].any: `where` holds conditions on a `property` and no others",
    ),
    "filter by a name that is none": (
        '[segments]\na = { event = "Bought", where = [{ property = "a..b", gt = 20 }] }',
        ("line 2: segments.a.where[0].property: must be the name of an attribute, with no empty part between its dots"),
    ),
    "filter without an operator": (
        '[segments]\na = { event = "Bought", where = [{ property = "total" }] }',
        (
            "line 2: segments.a.where[0]: `property` goes with one of `is`, `is_not`, `in`, `not_in`, `contains`, "
            "`starts_with`, `ends_with`, `exists`, `gt`, `gte`, `lt`, `lte`, `within`, `not_within`, `within_next`"
        ),
    ),
    "operator of an event": (
        '[segments]\na = { event = "Bought", gt = 2 }',
        "line 2: segments.a.gt: `gt` compares an `attribute`, it does not go with `event`",
    ),
    "count of an attribute": (
        '[segments]\na = { attribute = "n", gt = 2, at_least = 1 }',
        "line 2: segments.a.at_least: `at_least` goes with an `event`, not with `attribute`",
    ),
    "count of nothing": (
        "[segments]\na = { at_most = 0 }",
        (
            "line 2: segments.a: `at_most` needs an `event`, as in "
            '{ event = "Order Completed", at_least = 2, within = "30d" }'
        ),
    ),
    "property outside of an event": (
        '[segments]\na = { property = "total", gt = 20 }',
        "line 2: segments.a.property: a `property` is compared in `where` of an `event`",
    ),
    "time that is no duration": (
        '[segments]\na = { attribute = "seen_at", within = 30 }',
        ('line 2: segments.a.within: must be a duration such as "500ms", "1s", "5m", "24h" or "7d", is a whole number'),
    ),
    "internal that is neither true nor false": (
        "[segments]\na = { everyone = true, internal = 1 }",
        "line 2: segments.a.internal: must be true or false, is a whole number",
    ),
    "internal in a condition": (
        "[segments]\na = { any = [{ everyone = true, internal = true }] }",
        "line 2: segments.a.any[0].internal: belongs to the whole segment, not to a condition in it",
    ),
    "internal and nothing else": (
        "[segments]\na = { internal = true }",
        (
            "line 2: segments.a: must hold one of `all`, `any`, `none`, `attribute`, `event`, `segment`, `everyone`, "
            'as in { attribute = "plan", is = "pro" }'
        ),
    ),
    "reference that is no name": (
        "[segments]\na = { segment = 1 }",
        "line 2: segments.a.segment: must be text in quotes, is a whole number",
    ),
    "reference to no segment": (
        '[segments]\n"Paying" = { everyone = true }\na = { any = [{ segment = "Payng" }] }',
        'line 3: segments.a.any[0].segment: no segment is called "Payng"; did you mean "Paying"?',
    ),
    "reference to itself": (
        '[segments]\na = { none = [{ segment = "a" }] }',
        'line 2: segments.a.none[0].segment: leads back to itself: "a" -> "a"',
    ),
    "references in a circle": (
        '[segments]\na = { segment = "b c" }\n"b c" = { all = [{ segment = "d" }] }\nd = { segment = "b c" }',
        'line 4: segments.d.segment: leads back to itself: "b c" -> "d" -> "b c"',
    ),
    "index on what is no attribute": (
        '[store]\nindexed_attributes = ["plan", "email"]',
        (
            "line 2: store.indexed_attributes[1]: must be an attribute of your data; what the connector itself knows "
            "of a user is none"
        ),
    ),
    "index on a name that is none": (
        '[store]\nindexed_attributes = ["a..b"]',
        ("line 2: store.indexed_attributes[0]: must be the name of an attribute, with no empty part between its dots"),
    ),
    "not everyone": ("[segments]\na = { everyone = false }", "line 2: segments.a.everyone: can only be true, is false"),
    "empty group": (
        "[segments]\na = { none = [] }",
        "line 2: segments.a.none: must hold at least one condition; `everyone = true` holds for all users",
    ),
    "group of one without a list": (
        "[segments]\na = { none = { everyone = true } }",
        "line 2: segments.a.none: must be a list of conditions, is a table",
    ),
    "segment that is no table": (
        '[segments]\na = "plan"',
        'line 2: segments.a: must be a condition such as { attribute = "plan", is = "pro" }, is text',
    ),
    "segment without a name": (
        '[segments]\n"" = { everyone = true }',
        'line 2: segments."": needs a name, without line breaks or control characters',
    ),
    # Names under which attributes are sent
    "two attributes under one name": (
        '[people]\nattributes = ["account.name", "account_name"]',
        'line 2: people.attributes[1]: would be sent as "account_name", as "account.name" is',
    ),
    "attribute under the name of the segments": (
        '[people]\nattributes = [{ name = "x", as = "hull_segments" }]',
        'line 2: people.attributes[0]: would be sent as "hull_segments", which is people.segments_attribute',
    ),
    "the id under its other name": (
        '[people]\nattributes = ["hull_id", "id"]',
        'line 2: people.attributes[1]: would be sent as "hull_id", as "hull_id" is',
    ),
    "attribute that is sent anyway": (
        '[people]\nattributes = ["email"]',
        'line 2: people.attributes[0]: "email" is sent anyway, its name is taken',
    ),
    "reserved name": (
        '[people]\nattributes = [{ name = "x", as = "cio_id" }]',
        'line 2: people.attributes[0]: would be sent as "cio_id", a name that Customer.io reserves',
    ),
    "name with an underscore in front": (
        '[people]\nsegments_attribute = "_segments"',
        'line 2: people.segments_attribute: would be sent as "_segments", a name that Customer.io reserves',
    ),
    "name that is too long": (
        f'[people]\nattributes = ["{"é" * 76}"]',
        "line 2: people.attributes[0]: would be sent under a name of more than 150 bytes",
    ),
    "facts from Customer.io sent back": (
        '[people]\nattributes = ["customerio.opened_at"]',
        "line 2: people.attributes[0]: what Customer.io reported is never sent back to it",
    ),
    "empty name": (
        '[people]\nattributes = [{ name = "x", as = "" }]',
        "line 2: people.attributes[0].as: must not be empty",
    ),
    "no name at all": (
        '[people]\nattributes = [{ as = "x" }]',
        "line 2: people.attributes[0].name: is missing",
    ),
    # What must agree
    "deletes without a webhook key": (
        "[people]\n[people.delete]\nenabled = true",
        (
            "line 3: people.delete.enabled: needs webhooks.signing_keys: without webhooks nobody's opt-out is learnt, "
            "and who comes back after a delete would be subscribed; `blind = true` allows it all the same"
        ),
    ),
    "a share that is a percentage": (
        "[guard]\nmax_delete_share = 5",
        "line 2: guard.max_delete_share: must be 1 or less, is 5",
    ),
    "an opt-out that is no path": (
        '[people]\nopt_out = "consent..mail"',
        "line 2: people.opt_out: must be the name of an attribute, with no empty part between its dots",
    ),
    "an opt-out by what Customer.io reported": (
        '[people]\nopt_out = "customerio.spammed_at"',
        (
            "line 2: people.opt_out: must be an attribute of your data; what the connector itself knows of a user is "
            "none"
        ),
    ),
    "region": (
        '[customerio]\nsite_id = "s"\napi_key = "env:KEY"',
        'line 1: customerio.region: is required with customerio.site_id: "us" or "eu"',
    ),
    "key without a site id": (
        '[customerio]\napi_key = "env:KEY"\nregion = "us"',
        "line 1: customerio.site_id: is required with customerio.api_key",
    ),
    "site id without a key": (
        '[customerio]\nsite_id = "s"\nregion = "us"',
        "line 1: customerio.api_key: is required with customerio.site_id",
    ),
    "site id with an empty key": (
        '[customerio]\nsite_id = "s"\nregion = "us"\napi_key = "env:EMPTY"',
        "line 4: customerio.api_key: is required with customerio.site_id",
    ),
    "open admin listener": (
        '[admin]\nhost = "0.0.0.0"',
        "line 1: admin.token: is required when admin.host is not a loopback address",
    ),
    "one port for two": (
        '[server]\nhost = "localhost"\n[admin]\nport = 8080',
        "line 4: admin.port: is 8080, which [server] listens on already",
    ),
    # Secrets
    "unset variable": (
        '[webhooks]\nsigning_keys = [\n "env:KEY",\n "env:KEYS" ]',
        'line 4: webhooks.signing_keys[1]: the environment variable KEYS is not set; did you mean "KEY"?',
    ),
    "literal secret": (
        '[admin]\ntoken = "canary"',
        'line 2: admin.token: is secret, so it is not written here but as "env:NAME" or "file:PATH"',
    ),
    "no variable name": (
        '[admin]\ntoken = "env:sk-canary"',
        'line 2: admin.token: needs the name of an environment variable after "env:"',
    ),
    "a key where a name belongs": (
        '[admin]\ntoken = "env:canary4f21"',
        "line 2: admin.token: the environment variable is not set",
    ),
    "no file name": ('[admin]\ntoken = "file:"', 'line 2: admin.token: needs the path of a file after "file:"'),
    # TOML itself
    "syntax": (
        "[server]\nport = 1\nhost =\n",
        "line 3: is not TOML: Invalid value",
    ),
    "key twice": ("[server]\nport = 1\nport = 2", "line 3: is not TOML: Cannot overwrite a value"),
    "end too soon": ('[server]\nhost = """x\n\n', "line 2: is not TOML: Unterminated string"),
    "endless number": (f"[server]\nport = {'9' * 5000}", "holds a number that is too long"),
    "lists nested deep": (f"a = {'[' * 200}{']' * 200}", "is nested too deep"),
    "tables nested deep": (f"a{'.a' * 3000} = 1", "is nested too deep"),
    "nested too deep": (f"a = {'[' * 5000}{']' * 5000}", "is nested too deep"),
    "nothing": (" \n", "is empty; a comment alone would mean all defaults"),
    "not UTF-8": (b"[server]\n# caf\xe9\n", "line 2: is not UTF-8 text"),
    "byte order mark": (
        b"\xef\xbb\xbf[server]\n",
        "line 1: starts with a byte order mark; save it as UTF-8 without one",
    ),
    "UTF-16": (
        "[server]\n".encode("utf-16"),
        "line 1: starts with a byte order mark; save it as UTF-8 without one",
    ),
}


@pytest.mark.parametrize(("text", "fault"), ONE_FAULT.values(), ids=ONE_FAULT)
def test_a_fault_is_told_once_in_plain_words_at_its_place(tmp_path: Path, text: str | bytes, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]
    assert "canary" not in fault


def test_all_faults_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
[server]
port = "80"
[customerio]
site_id = "abc"
api_key = "env:NOPE"
in_flight = 0
[people]
customer_id = ["id", 3]
segments = [1, "Payng", "Broken"]
attributes = ["plan", { nam = "x" }, "plan"]
[segments]
Paying = { everyone = true }
Broken = { attribute = "x", is = [] }
"""
    assert [fault.split(": ")[:2] for fault in faults(tmp_path, text)] == [
        ["line 2", "server.port"],
        ["line 3", "customerio.region"],
        ["line 5", "customerio.api_key"],
        ["line 6", "customerio.in_flight"],
        ["line 8", "people.customer_id[1]"],
        ["line 9", "people.segments[0]"],
        ["line 9", "people.segments[1]"],
        ["line 10", "people.attributes[1].name"],
        ["line 10", "people.attributes[1].nam"],
        ["line 10", "people.attributes[2]"],
        ["line 13", "segments.Broken.is"],
    ]


def test_the_message_counts_the_faults(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as refused:
        load(tmp_path, "[server]\nport = 1.5\nhost = 1\n")

    first, *rest = str(refused.value).splitlines()
    assert first == f"The settings file {tmp_path / 'settings.toml'} can't be used, 2 faults:"
    assert rest == [
        "  line 2: server.port: must be a whole number, is a number with a fraction",
        "  line 3: server.host: must be text in quotes, is a whole number",
    ]


def test_no_fault_and_no_settings_hold_a_secret(tmp_path: Path) -> None:
    (tmp_path / "spaced").write_text(" canary \n")
    (tmp_path / ".env").write_text("canary\nSPACED=' canary'\n")
    text = """\
api_key = "canary"
[admin]
token = "canary"
[customerio]
api_key = ["canary"]
site_id = "a canary"
region = "canary"
canary_is_a_name = "canary"
[store]
url = "mysql://u:canary@h/d"
[webhooks]
signing_keys = ["canary", "env:SPACED", "file:spaced", { key = "canary" }]
"""
    with pytest.raises(Misconfigured) as refused:
        load(tmp_path, text)

    assert len(refused.value.faults) == 12
    assert "canary" not in str(refused.value).replace("canary_is_a_name", "")
    assert refused.value.__cause__ is None


def test_a_missing_file_and_a_folder_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"There is no settings file .*settings.toml: `connector init` makes one"):
        settings_file.load(tmp_path / "settings.toml")
    with pytest.raises(Misconfigured, match="is a folder, not a settings file"):
        settings_file.load(tmp_path)
    (tmp_path / "circle.toml").symlink_to("circle.toml")
    with pytest.raises(Misconfigured, match="can't be read: Too many levels of symbolic links"):
        settings_file.load(tmp_path / "circle.toml")


def test_references_become_values(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\r\n")
    settings = load(
        tmp_path,
        '[admin]\ntoken = "file:token"\n[webhooks]\nsigning_keys = ["env:EMPTY", "env:KEY"]\n'
        f'[customerio]\nsite_id = "s"\nregion = "eu"\napi_key = "file:{tmp_path}/token"\n',
    )

    assert settings.admin.token.get_secret_value() == "from a file"
    assert settings.customerio.api_key.get_secret_value() == "from a file"
    assert [key.get_secret_value() for key in settings.webhooks.signing_keys] == ["key-1"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b" x", "the value of this file: reference has a space or line break at an end"),
        (b"x\ny", "the value of this file: reference has characters that no key has"),
        ("clé".encode(), "the value of this file: reference has characters that no key has"),
        (b"\xff", 'the file "FOLDER/secret" is not UTF-8 text'),
        (b"x" * 70_000, 'the file "FOLDER/secret" is too large for a secret'),
        (None, "there is no file of that name"),
    ],
)
def test_a_file_that_holds_no_secret_is_a_fault(tmp_path: Path, content: bytes | None, fault: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)

    told = faults(tmp_path, '[admin]\ntoken = "file:secret"')

    assert told == [f"line 2: admin.token: {fault.replace('FOLDER', str(tmp_path))}"]


def test_a_file_that_is_not_there_is_named_unless_the_name_may_be_the_secret(tmp_path: Path) -> None:
    for name in ("file:run/secret", "file:secret.txt"):
        assert f'there is no file "{tmp_path}/{name[5:]}"' in faults(tmp_path, f'[admin]\ntoken = "{name}"')[0]
    long = f'[admin]\ntoken = "file:{"canary" * 100}"'
    assert faults(tmp_path, long) == ["line 2: admin.token: the file of that name can't be read: File name too long"]


def test_a_folder_or_device_is_no_secret(tmp_path: Path) -> None:
    assert "is not a file" in faults(tmp_path, '[admin]\ntoken = "file:."')[0]
    assert "is not a file" in faults(tmp_path, '[admin]\ntoken = "file:/dev/zero"')[0]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x", "x"),
        ("export A = x # note", "x"),
        ("A=x#y", "x#y"),
        ("A='x # y' # note", "x # y"),
        (r'A="x \"y\" \\"', r'x "y" \ '.strip()),
        ("A=$HOME", "$HOME"),
        ("A=a=b", "a=b"),
        ("A= # nothing", ""),
    ],
)
def test_a_dot_env_file_beside_the_settings_is_read(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(f"# names\n\n{line}\nKEY=from-dot-env\n")

    settings = load(tmp_path, '[admin]\ntoken = "env:A"\n[webhooks]\nsigning_keys = ["env:KEY"]')

    assert settings.admin.token.get_secret_value() == value
    assert settings.webhooks.signing_keys[0].get_secret_value() == "key-1", "the real environment goes first"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"A=1\ncanary\n", "line 2: .env: is not NAME=value, or a quote is not closed"),
        (b"A='canary\n", "line 1: .env: is not NAME=value, or a quote is not closed"),
        (b"A=\xff", ".env: is not UTF-8 text"),
    ],
)
def test_a_broken_dot_env_file_is_a_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / ".env").write_bytes(content)

    assert faults(tmp_path, "[server]") == [fault]


def test_a_virtual_environment_called_dot_env_is_let_be(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    assert load(tmp_path, "[server]\nport = 1").server.port == 1


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sqlite:///connector.db", "sqlite:///FOLDER/connector.db"),
        ("sqlite:///data/../connector.db", "sqlite:///FOLDER/data/../connector.db"),
        ("sqlite:////var/lib/connector.db", "sqlite:////var/lib/connector.db"),
        ("env:DATABASE", "postgres://u:p%40@h/d"),
        ("file:url", "sqlite:///FOLDER/other.db"),
    ],
)
def test_the_store_is_found_from_the_folder_of_the_settings(tmp_path: Path, url: str, meant: str) -> None:
    (tmp_path / "url").write_text("sqlite:///other.db\n")
    (tmp_path / "settings.toml").write_text(f'[store]\nurl = "{url}"\n')

    settings = settings_file.load(tmp_path / "settings.toml", {"DATABASE": "postgres://u:p%40@h/d"})

    assert settings.store.url.get_secret_value() == meant.replace("FOLDER", str(tmp_path))


def test_the_default_store_too_is_in_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("# all defaults\n")
    monkeypatch.chdir(tmp_path)

    settings = settings_file.load(Path("settings.toml"), {})

    assert settings.store.url.get_secret_value() == f"sqlite:///{tmp_path}/connector.db"


@pytest.mark.parametrize("url", ["sqlite:///other.db", "sqlite:////tmp/a.db", "postgresql://h/d"])
def test_what_else_the_store_table_says_counts_whatever_the_url(tmp_path: Path, url: str) -> None:
    store = load(tmp_path, f'[store]\nurl = "{url}"\nwebhook_bodies = "7d"\nattempts = "12h"').store

    assert (store.webhook_bodies, store.attempts) == (timedelta(days=7), timedelta(hours=12))


def test_a_folder_that_no_url_can_hold_is_said_plainly(tmp_path: Path) -> None:
    folder = tmp_path / "what?"
    folder.mkdir()

    assert "can't be relative here" in faults(folder, "[server]")[0]
    assert load(folder, '[store]\nurl = "sqlite:////tmp/a.db"').store.url.get_secret_value() == "sqlite:////tmp/a.db"


def test_a_restart_is_needed_for_listeners_and_store_alone(tmp_path: Path) -> None:
    old = load(tmp_path, '[server]\nport = 1\n[store]\nurl = "sqlite:///a.db"')
    new = load(
        tmp_path,
        '[server]\nport = 2\nreuse_port = true\n[store]\nurl = "sqlite:///b.db"\n'
        '[admin]\ntoken = "env:KEY"\n[log]\nlevel = "debug"',
    )

    assert settings_file.restart_needed(old, old) == ()
    assert settings_file.restart_needed(old, new) == ("server.port", "server.reuse_port", "admin.token", "store.url")


def test_the_secret_places_are_the_secret_fields_of_the_model() -> None:
    secret: set[tuple[str, ...]] = set()
    for table, fields in tables().items():
        for key, field in fields.model_fields.items():
            if field.annotation is SecretStr:
                secret.add((table, key))
            elif field.annotation == tuple[SecretStr, ...]:
                secret.add((table, key, "*"))

    assert set(secret_places.PLACES) == secret


def test_every_place_of_a_text_has_its_line() -> None:
    text = """\
top.dotted = 1
"quo\\"ted" = [ # comment
  1,
  { a = 1, b.c = [
    2 ] },
]
[ table . sub ]
key = \"\"\"
\"\"\"
[table]
[[many]]
x = 1
[[many]]
[many.in]
x = 2
[[many.more]]
y = 3
"""
    lines = settings_lines.of(text)

    assert tomllib.loads(text)
    assert lines == {
        ("top",): 1, ("top", "dotted"): 1,
        ('quo"ted',): 2, ('quo"ted', 0): 3, ('quo"ted', 1): 4, ('quo"ted', 1, "a"): 4,
        ('quo"ted', 1, "b"): 4, ('quo"ted', 1, "b", "c"): 4, ('quo"ted', 1, "b", "c", 0): 5,
        ("table",): 10, ("table", "sub"): 7, ("table", "sub", "key"): 8,
        ("many",): 11, ("many", 0): 11, ("many", 0, "x"): 12, ("many", 1): 13,
        ("many", 1, "in"): 14, ("many", 1, "in", "x"): 15,
        ("many", 1, "more"): 16, ("many", 1, "more", 0): 16, ("many", 1, "more", 0, "y"): 17,
    }  # fmt: skip
    assert settings_lines.line(lines, ("many", 1, "absent", 3)) == 13
    assert settings_lines.line(lines, ("absent",)) is None


def tables() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def test_the_example_loads_and_says_the_defaults() -> None:
    settings = settings_file.load(EXAMPLE, {})

    # The region has no default, and a relative path is made absolute.
    stripped = settings.model_copy(
        update={
            "store": settings.store.model_copy(update={"url": Settings().store.url}),
            "customerio": settings.customerio.model_copy(update={"region": None}),
        }
    )
    assert stripped == Settings()
    assert settings.store.url.get_secret_value() == f"sqlite:///{EXAMPLE.parent}/connector.db"


def test_the_example_has_every_key_with_a_comment_above_it() -> None:
    text = EXAMPLE.read_text()
    raw = tomllib.loads(text)
    lines = text.splitlines()

    assert lines[0] == "#:schema ./settings.schema.json", "editors look for it in the first line"
    assert list(raw)[:2] == ["customerio", "webhooks"], "credentials come first"
    assert set(raw) == set(Settings.model_fields)
    for table, fields in tables().items():
        assert set(raw[table]) == set(fields.model_fields), table
    assert set(raw["people"]["delete"]) == set(Delete.model_fields)
    for number, line in enumerate(lines):
        if re.match(r"\w+ = ", line) and not line.startswith("port"):
            assert lines[number - 1].startswith("#"), f"line {number + 1} has no comment above it"


def test_the_conditions_that_the_example_shows_can_be_used(tmp_path: Path) -> None:
    shown = re.findall(r'^#   (".*" = \{.*\})$', EXAMPLE.read_text(), re.MULTILINE)

    settings = load(tmp_path, "\n".join(["[segments]", *shown]))

    assert len(settings.segments) == len(shown) == 6
