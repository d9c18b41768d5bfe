-- Resources that were not reported for seven days. They come here as time passes, without any event, and leave when they
-- are reported again.
SELECT resource_type, updated_at, resource_id, workspace_id, reporter_type, reporter_instance_id
FROM resources
WHERE updated_at < now() - INTERVAL '7 days'
ORDER BY resource_type, updated_at, resource_id
