# Manual health check
sysctl discovery health-check api --check-name "HTTP Health Endpoint"

# Update health check status
sysctl discovery health-update api --status passing --output "All systems healthy"

# List failing health checks
sysctl discovery health-list --status failing

# Health check history
sysctl discovery health-history api --since 24h
