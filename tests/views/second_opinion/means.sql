-- What PostgreSQL has under other names, or means in another way, as DataFusion means it. The schema comes first on the
-- search path, so that this is found before what is built in.
CREATE SCHEMA means;

-- The epoch of the instant that is asked about, not the time of day.
CREATE FUNCTION means.now() RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT 'epoch'::timestamptz + current_setting('tarn.epoch_ms')::bigint * INTERVAL '1 millisecond' $$;

CREATE FUNCTION means.date_bin(INTERVAL, timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT AS
$$ SELECT pg_catalog.date_bin($1, $2, 'epoch'::timestamptz) $$;

-- Sums of whole numbers are whole numbers of the same width, and means of them are floats.
CREATE AGGREGATE means.sum(bigint) (SFUNC = int8pl, STYPE = bigint);

CREATE FUNCTION means.mean_step(bigint[], bigint) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $2 IS NULL THEN $1 ELSE ARRAY[$1[1] + 1, $1[2] + $2] END $$;
CREATE FUNCTION means.mean_step(bigint[], integer) RETURNS bigint[] LANGUAGE sql IMMUTABLE AS
$$ SELECT means.mean_step($1, $2::bigint) $$;
CREATE FUNCTION means.mean_end(bigint[]) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1[1] > 0 THEN $1[2]::double precision / $1[1] END $$;
CREATE AGGREGATE means.avg(bigint)
    (SFUNC = means.mean_step, STYPE = bigint[], FINALFUNC = means.mean_end, INITCOND = '{0,0}');
CREATE AGGREGATE means.avg(integer)
    (SFUNC = means.mean_step, STYPE = bigint[], FINALFUNC = means.mean_end, INITCOND = '{0,0}');

CREATE FUNCTION means.any_of(boolean, boolean) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1 OR $2 $$;
CREATE AGGREGATE means.max(boolean) (SFUNC = means.any_of, STYPE = boolean);

CREATE FUNCTION means.one_or_zero(boolean) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1::integer::bigint $$;
CREATE CAST (boolean AS bigint) WITH FUNCTION means.one_or_zero(boolean);
