-- Reporter keys that more than one live resource holds: Inventory's bulk delete tells nobody, and the next report makes
-- another resource of the same key. The newest holder is the one in `resources`; all others are in `orphaned_resources`.
SELECT older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id,
       count(*) + count(DISTINCT newest.resource_id) AS holders
FROM orphaned_resources AS older
-- The newest holder may have been deleted since, or have another key by now: then only the older ones count.
LEFT JOIN resources AS newest
  ON newest.resource_id = older.orphaned_by
 AND (newest.resource_type IS NOT DISTINCT FROM older.resource_type)
 AND (newest.reporter_type IS NOT DISTINCT FROM older.reporter_type)
 AND (newest.reporter_instance_id IS NOT DISTINCT FROM older.reporter_instance_id)
 AND (newest.local_resource_id IS NOT DISTINCT FROM older.local_resource_id)
GROUP BY older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id
HAVING count(*) + count(DISTINCT newest.resource_id) > 1
ORDER BY older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id
