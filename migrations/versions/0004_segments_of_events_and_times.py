"""what segments ask of events and times: an index, and what is a time"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The same reading as in the connector: an ISO 8601 date or time, or seconds, or milliseconds where seconds make no
# sense; in microseconds since 1970, NULL for anything else. No block with an exception: that would be a subtransaction
# for each call. Where a clock is set back, the first of two equal times is meant; PostgreSQL itself takes the second.
TIME_OF = r"""
CREATE FUNCTION connector_time(value jsonb, zone text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $function$
DECLARE
    number double precision;
    written text;
    rest text;
    fraction text := '';
    day integer;
    day_seconds bigint := 0;
    offset_minutes integer;
    local_time timestamp;
    moment timestamptz;
    earlier timestamptz;
    microseconds bigint;
BEGIN
    IF jsonb_typeof(value) = 'number' THEN
        IF abs(value::numeric) >= 1000000000000000 THEN
            RETURN NULL;
        END IF;
        -- Rounded, because a number that is too small for a double fails as one that is too large.
        number := round(value::numeric, 30);
        IF abs(number) >= 100000000000 THEN
            number := number / 1000;
        END IF;
        microseconds := trunc(number)::bigint * 1000000 + round((number - trunc(number)) * 1000000)::bigint;
    ELSIF jsonb_typeof(value) = 'string' THEN
        written := value #>> '{}';
        -- Without captures, which make it many times slower; whatever passes has its parts in known places.
        IF written !~ ('^[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])'
            '(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?'
            '(?: ?(?:Z|z|[+-][0-9]{2}(?::?[0-9]{2})?))?)?$') OR left(written, 4) = '0000' THEN
            RETURN NULL;
        END IF;
        day := substr(written, 9, 2);
        IF day > 28 AND day > date_part('day', make_date(
            left(written, 4)::integer, substr(written, 6, 2)::integer, 1) + interval '1 month - 1 day') THEN
            RETURN NULL;
        END IF;
        IF length(written) > 10 THEN
            day_seconds := substr(written, 12, 2)::integer * 3600 + substr(written, 15, 2)::integer * 60;
            rest := substr(written, 17);
            IF left(rest, 1) = ':' THEN
                day_seconds := day_seconds + substr(rest, 2, 2)::integer;
                rest := substr(rest, 4);
            END IF;
            IF left(rest, 1) IN ('.', ',') THEN
                fraction := split_part(translate(substr(rest, 2), ' Zz+-', '#####'), '#', 1);
                rest := substr(rest, 2 + length(fraction));
            END IF;
            rest := ltrim(rest);
            IF rest IN ('Z', 'z') THEN
                offset_minutes := 0;
            ELSIF rest <> '' THEN
                offset_minutes := substr(rest, 2, 2)::integer * 60
                    + coalesce(nullif(replace(substr(rest, 4), ':', ''), ''), '0')::integer;
                IF offset_minutes >= 1440 THEN
                    RETURN NULL;
                END IF;
                IF left(rest, 1) = '-' THEN
                    offset_minutes := -offset_minutes;
                END IF;
            END IF;
        END IF;
        IF offset_minutes IS NULL AND zone = 'UTC' THEN
            offset_minutes := 0;
        END IF;
        IF offset_minutes IS NOT NULL THEN
            microseconds := ((left(written, 10)::date - '1970-01-01'::date)::bigint * 86400
                + day_seconds - offset_minutes * 60) * 1000000;
        ELSE
            local_time := left(written, 10)::date + make_interval(secs => day_seconds);
            moment := local_time AT TIME ZONE zone;
            earlier := moment - interval '24 hours';
            earlier := (local_time - ((earlier AT TIME ZONE zone) - (earlier AT TIME ZONE 'UTC'))) AT TIME ZONE 'UTC';
            IF earlier < moment AND earlier AT TIME ZONE zone = local_time THEN
                moment := earlier;
            END IF;
            microseconds := extract(epoch FROM moment) * 1000000;
        END IF;
        microseconds := microseconds + rpad(left(fraction, 6), 6, '0')::integer;
    END IF;
    IF microseconds BETWEEN -62135596800000000 AND 253402300799999999 THEN
        RETURN microseconds;
    END IF;
    RETURN NULL;
END
$function$
"""


def upgrade() -> None:
    indexed = sa.text("length(name) <= 500")
    op.create_index(
        "ix_events_name", "events", ["user_id", "name", "occurred_at"], sqlite_where=indexed, postgresql_where=indexed
    )
    if op.get_context().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(TIME_OF)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION connector_time(jsonb, text)")
    op.drop_index("ix_events_name", "events")
