"""Registers with py-eureka-client, and prints the application `SEEN` as that library sees it, line by line, until its input ends."""

import json
import sys
import time

from py_eureka_client import eureka_client

server, app, port, seen = sys.argv[1:5]
eureka_client.init(
    eureka_server=server,
    app_name=app,
    instance_id=f"{app}-{port}",
    instance_host="127.0.0.1",
    instance_ip="127.0.0.1",
    instance_port=int(port),
    renewal_interval_in_secs=1,
    duration_in_secs=3,
    metadata={"language": "python"},
)
client = eureka_client.get_client()
print("ready", flush=True)
for _ in range(600):
    application = client.applications.get_application(seen.upper())
    instances = application.up_instances if application else []
    found = [
        {"id": i.instanceId, "host": i.hostName, "port": i.port.port, "metadata": dict(i.metadata), "vip": i.vipAddress}
        for i in instances
    ]
    print(json.dumps(found), flush=True)
    if found:
        break
    time.sleep(0.2)
sys.stdin.read()
eureka_client.stop()
