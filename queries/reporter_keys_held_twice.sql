-- Reporter keys that more than one live resource holds: Inventory made another resource and never deleted the former.
SELECT resource_type, reporter_type, reporter_instance_id, local_resource_id, count(*) + 1 AS holders
FROM orphaned_resources
GROUP BY resource_type, reporter_type, reporter_instance_id, local_resource_id
ORDER BY resource_type, reporter_type, reporter_instance_id, local_resource_id
