# Service registry status
sysctl discovery status --backend consul --detailed

# Health check summary
sysctl discovery health-summary --service api

# Discovery performance metrics
sysctl discovery metrics --duration 1h --backend consul

# Generate discovery report
sysctl discovery report --format pdf --include-metrics --period weekly
