-- Hosts without an Insights id or without a subscription, by workspace: whoever owns them cannot be advised or billed.
SELECT workspace_id, resource_id, local_resource_id, insights_id IS NULL AS lacks_insights_id,
       subscription_manager_id IS NULL AS lacks_subscription
FROM host
WHERE insights_id IS NULL OR subscription_manager_id IS NULL
ORDER BY workspace_id, resource_id
