# Find services by name
sysctl discovery find api --backend consul

# Find services by tag
sysctl discovery find --tag "production" --backend consul

# Find healthy services only
sysctl discovery find api --healthy-only --backend consul

# Service details
sysctl discovery describe api --service-id api-node-1
