"""The life of a fleet through azure-mgmt-containerservicefleet, against a service that a test has started.

Reads FLEET_URL, FLEET_SUBSCRIPTION, FLEET_CLUSTERS (resource IDs, one a line) and, for azure-identity, AZURE_TENANT_ID,
AZURE_CLIENT_ID, AZURE_CLIENT_SECRET; REQUESTS_CA_BUNDLE names the authority to trust.
"""

import inspect
import os
import sys
import time

import azure.mgmt.containerservicefleet as package
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential
from azure.mgmt.containerservicefleet import ContainerServiceFleetMgmtClient

URL = os.environ["FLEET_URL"]
SUBSCRIPTION = os.environ["FLEET_SUBSCRIPTION"]
CLUSTERS = os.environ["FLEET_CLUSTERS"].split()
GROUP = f"python-{package.__version__}".replace(".", "-")

credential = ClientSecretCredential(
    os.environ["AZURE_TENANT_ID"],
    os.environ["AZURE_CLIENT_ID"],
    os.environ["AZURE_CLIENT_SECRET"],
    authority=URL,
)
client = ContainerServiceFleetMgmtClient(
    credential,
    SUBSCRIPTION,
    base_url=URL,
    credential_scopes=[f"{URL}/.default"],
    polling_interval=1,
)


def arm(method, path, body=None, version="2024-11-01"):
    """A request beside the SDK's operations, through its own pipeline."""
    send = getattr(client, "send_request", None) or client._send_request
    url = path if path.startswith("https://") else f"{URL}/subscriptions/{SUBSCRIPTION}{path}?api-version={version}"
    return send(HttpRequest(method, url, json=body))


def condition(operation, etag):
    """If-Match as this version of the SDK spells it."""
    if "match_condition" in inspect.signature(operation).parameters:
        return {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    return {"if_match": etag}


def refused(status, call):
    try:
        call()
    except HttpResponseError as error:
        assert error.status_code == status, error
        return error
    raise AssertionError(f"was not refused with {status}")


def until(what, read, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        value = read()
        if holds(value):
            return value
        assert time.monotonic() < deadline, f"{what}: {value}"
        time.sleep(0.2)


def state(run):
    return run.status.status.state


# Resource groups, the fleet, and conditions.
assert arm("PUT", f"/resourcegroups/{GROUP}", {"location": "westeurope"}).status_code == 201
fleets, members, strategies, runs = (
    client.fleets,
    client.fleet_members,
    client.fleet_update_strategies,
    client.update_runs,
)
fleet = fleets.begin_create_or_update(GROUP, "f", {"location": "westeurope", "tags": {"a": "b"}}).result()
assert (fleet.name, fleet.location, fleet.provisioning_state if hasattr(fleet, "provisioning_state") else "Succeeded") == (
    "f",
    "westeurope",
    "Succeeded",
), fleet
again = fleets.begin_create_or_update(
    GROUP, "f", {"location": "westeurope"}, **condition(fleets.begin_create_or_update, fleet.e_tag)
).result()
assert again.e_tag != fleet.e_tag
refused(
    412,
    lambda: fleets.begin_create_or_update(
        GROUP, "f", {"location": "westeurope"}, **condition(fleets.begin_create_or_update, fleet.e_tag)
    ).result(),
)
patched = fleets.begin_update(GROUP, "f", {"tags": {"team": "x"}}).result()
assert patched.tags == {"team": "x"}, patched
refused(409, lambda: fleets.begin_create_or_update(GROUP, "f", {"location": "eastus"}).result())
assert [f.name for f in fleets.list_by_resource_group(GROUP)] == ["f"]
assert "f" in [f.name for f in fleets.list_by_subscription()]

# Members.
for number, cluster in enumerate(CLUSTERS):
    body = {"properties": {"clusterResourceId": cluster, "group": f"g{number % 2}"}}
    member = members.begin_create(GROUP, "f", f"m{number}", body).result()
    assert member.name == f"m{number}", member
names = [m.name for m in members.list_by_fleet(GROUP, "f")]
assert names == [f"m{n}" for n in range(len(CLUSTERS))], names
if "top" in inspect.signature(members.list_by_fleet).parameters:
    pages = list(members.list_by_fleet(GROUP, "f", top=2).by_page())
    assert len(pages) == (len(CLUSTERS) + 1) // 2, pages
error = refused(
    409,
    lambda: members.begin_create(GROUP, "f", "twice", {"properties": {"clusterResourceId": CLUSTERS[0]}}).result(),
)
assert isinstance(error, ResourceExistsError) and error.error.code, error

# Strategy and run: start, stop, skip, completion.
stages = {"stages": [{"name": "s0", "groups": [{"name": "g0"}]}, {"name": "s1", "groups": [{"name": "g1"}], "afterStageWaitInSeconds": 3600}]}
strategy = strategies.begin_create_or_update(GROUP, "f", "st", {"properties": {"strategy": stages}}).result()
assert [s.name for s in strategy.strategy.stages] == ["s0", "s1"], strategy
body = {
    "properties": {
        "updateStrategyId": strategy.id,
        "managedClusterUpdate": {"upgrade": {"type": "ControlPlaneOnly", "kubernetesVersion": "1.33.2"}},
    }
}
run = runs.begin_create_or_update(GROUP, "f", "r", body).result()
assert state(run) == "NotStarted" and run.strategy.stages[0].name == "s0", run
refused(409, lambda: runs.begin_stop(GROUP, "f", "r").result())
read = lambda: runs.get(GROUP, "f", "r")
runs.begin_start(GROUP, "f", "r").result()
runs.begin_stop(GROUP, "f", "r").result()
until("stopped right after the start", read, lambda run: state(run) == "Stopped")
runs.begin_start(GROUP, "f", "r").result()
assert state(read()) != "Stopped", read()
until("running", read, lambda run: state(run) == "Running")
runs.begin_stop(GROUP, "f", "r").result()
until("stopped", read, lambda run: state(run) == "Stopped")
last = f"m{len(CLUSTERS) - 1}"
runs.begin_skip(GROUP, "f", "r", {"targets": [{"type": "Member", "name": last}]}).result()
error = refused(400, lambda: runs.begin_skip(GROUP, "f", "r", {"targets": [{"type": "Group", "name": "none"}]}).result())
assert "none" in error.message, error
runs.begin_start(GROUP, "f", "r").result()
until("waiting", read, lambda run: run.status.stages[1].after_stage_wait_status.status.state == "Running")
runs.begin_skip(GROUP, "f", "r", {"targets": [{"type": "AfterStageWait", "name": "s1"}]}).result()
run = until("completed", read, lambda run: state(run) == "Completed")
states = {m.name: m.status.state for stage in run.status.stages for group in stage.groups for m in group.members}
assert states.pop(last) == "Skipped" and set(states.values()) == {"Completed"}, states
assert [r.name for r in runs.list_by_fleet(GROUP, "f")] == ["r"]

# Provider, errors, deletions.
assert any("updateRuns/start" in operation.name for operation in client.operations.list())
refused(404, lambda: fleets.get(GROUP, "none"))
try:
    fleets.get("none", "f")
except ResourceNotFoundError as missing:
    assert missing.error.code == "ResourceGroupNotFound", missing
refused(400, lambda: fleets.begin_create_or_update(GROUP, "Not_A_Name!", {"location": "westeurope"}).result())
runs.begin_delete(GROUP, "f", "r").result()
strategies.begin_delete(GROUP, "f", "st").result()
members.begin_delete(GROUP, "f", "m0").result()
refused(404, lambda: members.get(GROUP, "f", "m0"))
fleets.begin_delete(GROUP, "f").result()
refused(404, lambda: fleets.get(GROUP, "f"))
begun = arm("DELETE", f"/resourcegroups/{GROUP}")
assert begun.status_code == 202, begun
until("group deleted", lambda: arm("GET", begun.headers["Location"]), lambda answer: answer.status_code == 200)
assert arm("HEAD", f"/resourcegroups/{GROUP}").status_code == 404
print(f"azure-mgmt-containerservicefleet {package.__version__} on Python {sys.version.split()[0]}: passed")
