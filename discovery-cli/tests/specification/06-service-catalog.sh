# Service catalog management
sysctl discovery catalog create --template service-template.yaml

# Register service from catalog
sysctl discovery catalog deploy api --version v2.1.0 --environment production

# List catalog services
sysctl discovery catalog list --category database

# Update service catalog
sysctl discovery catalog update api --version v2.2.0 --changelog "Bug fixes"
