-- Live resources by type, reporter and instance of the reporter: what the daily metrics job of Inventory counts, at any
-- moment.
SELECT resource_type, reporter_type, reporter_instance_id, count(*) AS resources
FROM resources
GROUP BY resource_type, reporter_type, reporter_instance_id
ORDER BY resource_type, reporter_type, reporter_instance_id
