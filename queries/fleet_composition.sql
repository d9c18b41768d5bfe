-- What the fleet is made of: each type's share of all live resources, in percent.
SELECT resource_type, resources, round(100.0 * resources / total, 2) AS share_percent
FROM (SELECT resource_type, count(*) AS resources FROM resources GROUP BY resource_type)
CROSS JOIN (SELECT count(*) AS total FROM resources)
ORDER BY resources DESC
