-- What Kessel's Inventory does when a host is reported, to see it arrive: rows of its own, and in the same transaction a
-- message for each of its two topics in PostgreSQL's log, which the connector decodes. The first report of a host creates
-- it, others update it; `-v delete=true` deletes it, and a report after that revives it under the same id.
-- `-v host=NAME` and `-v workspace=ID` say which host it is, and where.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?host}
\else
  \set host web-1
\endif
\if :{?workspace}
\else
  \set workspace a64d17d0-aec3-410a-acd0-e0b85b22c076
\endif
\if :{?delete}
\else
  \set delete false
\endif

SET client_min_messages = warning;

-- The connector is told nothing of what was written before it began to read.
DO $$
BEGIN
  FOR attempt IN 1..120 LOOP
    IF EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'inventory_api_debezium' AND active) THEN
      RETURN;
    END IF;
    PERFORM pg_sleep(0.5);
  END LOOP;
  RAISE EXCEPTION 'the connector does not read: nobody would see this report';
END
$$;

CREATE TABLE IF NOT EXISTS reported_hosts (
  local_resource_id text PRIMARY KEY,
  resource_id uuid NOT NULL,
  workspace_id text NOT NULL,
  version bigint NOT NULL DEFAULT 0,
  tombstone boolean NOT NULL
);

-- Ids are of version 7: 48 bits of milliseconds, then chance. Tarn takes the time of an event from its id.
CREATE FUNCTION pg_temp.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
  SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
    52, 1), 53, 1), 'hex')::uuid
$$;

BEGIN ISOLATION LEVEL SERIALIZABLE;

INSERT INTO reported_hosts AS known (local_resource_id, resource_id, workspace_id, tombstone)
VALUES (:'host', pg_temp.uuid_v7(), :'workspace', :'delete')
ON CONFLICT (local_resource_id) DO UPDATE
SET version = known.version + 1, workspace_id = excluded.workspace_id, tombstone = excluded.tombstone
RETURNING resource_id,
          CASE WHEN tombstone THEN 'deleted' WHEN version = 0 THEN 'created' ELSE 'updated' END AS operation,
          to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS reported_at
\gset

SELECT pg_logical_emit_message(true, 'kessel.resources', json_build_object(
  'id', pg_temp.uuid_v7(),
  'aggregatetype', 'kessel.resources',
  'aggregateid', :'resource_id',
  'operation', :'operation',
  'txid', '',
  -- A delete says nothing but that it is one.
  'payload', CASE WHEN :'operation' = 'deleted' THEN '{}'::json ELSE json_build_object(
    'data', json_build_object(
      'metadata', json_build_object(
        CASE WHEN :'operation' = 'created' THEN 'created_at' ELSE 'updated_at' END, :'reported_at',
        'id', :'resource_id',
        'org_id', '',
        'resource_type', 'host',
        'workspace_id', :'workspace'),
      'reporter_data', json_build_object(
        'api_href', 'https://api.example/hosts/' || :'host',
        'console_href', 'https://console.example/hosts/' || :'host',
        'local_resource_id', :'host',
        'reporter_instance_id', 'redhat',
        'reporter_type', 'hbi',
        'reporter_version', '1.0'),
      'resource_data', json_build_object(
        'ansible_host', :'host',
        'insights_id', md5(:'host')::uuid)),
    'datacontenttype', 'application/json',
    'id', gen_random_uuid(),
    'source', '',
    'specversion', '1.0',
    'subject', '/resources/host/' || :'resource_id',
    'time', :'reported_at',
    'type', 'redhat.inventory.resources.host.' || :'operation') END)::text)
\g /dev/null

SELECT pg_logical_emit_message(true, 'kessel.tuples', json_build_object(
  'id', pg_temp.uuid_v7(),
  'aggregatetype', 'kessel.tuples',
  'aggregateid', :'resource_id',
  'operation', :'operation',
  'txid', pg_temp.uuid_v7(),
  'payload', json_build_object(
    'reporter_resource_key', json_build_object(
      'local_resource_id', :'host',
      'reporter', json_build_object('reporter_instance_id', 'redhat', 'reporter_type', 'hbi'),
      'resource_type', 'host')))::text)
\g /dev/null

COMMIT;

\echo :operation :resource_id
