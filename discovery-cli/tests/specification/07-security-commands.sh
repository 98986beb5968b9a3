# Create ACL token
sysctl discovery acl create-token --policy service_read --description "Read-only token"

# List ACL policies
sysctl discovery acl list-policies

# Test ACL permissions
sysctl discovery acl test-permission --token ${TOKEN} --operation service:read:api

# Rotate ACL tokens
sysctl discovery acl rotate-token --token-id abc123 --keep-old 24h
