-- The twenty workspaces that lost most resources by deletion in the last hour.
SELECT last_workspace_id AS workspace_id, count(*) AS deleted
FROM deleted_resources
WHERE deleted_at > now() - INTERVAL '1 hour' AND last_workspace_id IS NOT NULL
GROUP BY last_workspace_id
ORDER BY deleted DESC
LIMIT 20
