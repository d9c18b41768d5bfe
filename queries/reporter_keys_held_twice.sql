-- Reporter keys that more than one live resource holds: Inventory's bulk delete tells nobody, and the next report makes
-- another resource of the same key. The newest holder is the one in `resources`; all others are in `orphaned_resources`.
SELECT older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id,
       count(*) + 1 - count(DISTINCT gone.resource_id) AS holders
FROM orphaned_resources AS older
-- The newest holder may have been deleted since; its tombstone stays as long as there is an older one.
LEFT JOIN deleted_resources AS gone ON gone.resource_id = older.orphaned_by
GROUP BY older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id
HAVING count(*) + 1 - count(DISTINCT gone.resource_id) > 1
ORDER BY older.resource_type, older.reporter_type, older.reporter_instance_id, older.local_resource_id
