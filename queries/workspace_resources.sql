-- Live resources of each workspace by type. Ask for one with `?workspace_id=`: it is a seek.
SELECT workspace_id, resource_type, count(*) AS resources
FROM resources
GROUP BY workspace_id, resource_type
ORDER BY workspace_id, resource_type
