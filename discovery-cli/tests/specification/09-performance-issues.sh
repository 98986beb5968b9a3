# Discovery performance analysis
sysctl discovery analyze performance --duration 1h

# Cache hit rate analysis
sysctl discovery analyze cache-performance --backend consul

# Network latency analysis
sysctl discovery analyze network-latency --between-datacenters

# Load balancing efficiency
sysctl discovery analyze load-balancing --service api --duration 24h
