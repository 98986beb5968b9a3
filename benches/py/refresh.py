"""Reads a service with py-consul, as often as a line of standard input says, and tells the CPU nanoseconds it took."""

import sys
import time

import consul

port, service, instances = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
client = consul.Consul(host="127.0.0.1", port=port)
for line in sys.stdin:
    count = int(line)
    start = time.thread_time_ns()
    for _ in range(count):
        _, nodes = client.health.service(service)
        assert len(nodes) == instances
    print(time.thread_time_ns() - start, flush=True)
