-- The hundred latest changes, newest first: reports of live resources, and deletes.
SELECT changed_at, change, resource_id, resource_type, workspace_id, reporter_type, event_id
FROM (
    SELECT event_time AS changed_at, 'reported' AS change, resource_id, resource_type, workspace_id, reporter_type,
           event_id
    FROM resources
    UNION ALL
    SELECT deleted_at, 'deleted', resource_id, resource_type, last_workspace_id, reporter_type, event_id
    FROM deleted_resources
)
ORDER BY changed_at DESC NULLS LAST
LIMIT 100
