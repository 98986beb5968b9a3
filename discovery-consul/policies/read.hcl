# Find and watch every service. Name services and nodes instead of the empty prefix to allow less.
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
# Tells the agent's version, and with it whether an empty answer may hide something.
agent_prefix "" {
  policy = "read"
}
