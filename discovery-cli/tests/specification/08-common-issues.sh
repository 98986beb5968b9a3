# Test connectivity
sysctl discovery test-connection --backend consul

# Debug service registration
sysctl discovery debug register api --verbose

# Check health check status
sysctl discovery debug health-checks api --detailed

# Verify DNS resolution
sysctl discovery debug dns api.service.consul

# Network connectivity test
sysctl discovery debug network --test-ports 8300,8301,8302
