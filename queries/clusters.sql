-- Kubernetes clusters by status, platform, vendor and version.
SELECT cluster_status, cloud_platform, kube_vendor, kube_version, count(*) AS clusters
FROM k8s_cluster
GROUP BY cluster_status, cloud_platform, kube_vendor, kube_version
ORDER BY cluster_status, cloud_platform, kube_vendor, kube_version
