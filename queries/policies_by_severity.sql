-- Kubernetes policies by severity: how many there are, and how many of them are in force.
SELECT severity, count(*) AS policies, count(*) FILTER (WHERE NOT coalesce(disabled, false)) AS enabled
FROM k8s_policy
GROUP BY severity
ORDER BY severity
