# Register service
sysctl discovery register api \
  --address 10.0.1.100 \
  --port 8080 \
  --tags "api,v2.1.0,production" \
  --health-check http://10.0.1.100:8080/health

# Deregister service
sysctl discovery deregister api --service-id api-node-1

# List registered services
sysctl discovery list --backend consul

# Check service health
sysctl discovery health api --backend consul

# Watch service changes
sysctl discovery watch api --follow
