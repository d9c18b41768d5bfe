-- The hundred resources that changed last, newest first.
SELECT event_time, resource_id, resource_type, workspace_id, reporter_type, event_id
FROM resources
ORDER BY event_time DESC NULLS LAST
LIMIT 100
