# Get configuration
sysctl discovery config get database_url --backend consul

# Set configuration
sysctl discovery config set api_timeout 30s --backend consul

# Watch configuration changes
sysctl discovery config watch feature_flags --backend consul --follow

# Bulk configuration update
sysctl discovery config import config.yaml --backend consul --prefix "config/"
