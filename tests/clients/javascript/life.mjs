// The life of a fleet through @azure/arm-containerservicefleet, against a service that a test has started.
//
// Reads FLEET_URL, FLEET_SUBSCRIPTION, FLEET_CLUSTERS (resource IDs, one a line), AZURE_TENANT_ID, AZURE_CLIENT_ID and
// AZURE_CLIENT_SECRET; NODE_EXTRA_CA_CERTS names the authority to trust.

import assert from "node:assert/strict";
import { ContainerServiceFleetClient } from "@azure/arm-containerservicefleet";
import { ClientSecretCredential } from "@azure/identity";

const { FLEET_URL, FLEET_SUBSCRIPTION, AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET } = process.env;
const clusters = process.env.FLEET_CLUSTERS.split(/\s+/).filter(Boolean);
const group = "javascript";
const fast = { updateIntervalInMs: 100 };

const credential = new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, {
  authorityHost: FLEET_URL,
});
const client = new ContainerServiceFleetClient(credential, FLEET_SUBSCRIPTION, { endpoint: FLEET_URL });

async function arm(method, path, body) {
  const { token } = await credential.getToken(`${FLEET_URL}/.default`);
  const url = path.startsWith("https://")
    ? path
    : `${FLEET_URL}/subscriptions/${FLEET_SUBSCRIPTION}${path}?api-version=2024-11-01`;
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  return fetch(url, { method, headers, body: body && JSON.stringify(body) });
}

async function refused(status, call) {
  await assert.rejects(
    async () => call(),
    (error) => {
      assert.equal(error.statusCode, status, error.message);
      return true;
    },
  );
}

async function until(what, read, holds) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    assert.ok(Date.now() < deadline, `${what}: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

const { fleets, fleetMembers, fleetUpdateStrategies, updateRuns } = client;

assert.equal((await arm("PUT", `/resourcegroups/${group}`, { location: "westeurope" })).status, 201);
const fleet = await fleets.create(group, "f", { location: "westeurope", tags: { a: "b" } }, fast);
assert.equal(fleet.properties.provisioningState, "Succeeded");
const again = await fleets.create(group, "f", { location: "westeurope" }, { ifMatch: fleet.eTag, ...fast });
assert.notEqual(again.eTag, fleet.eTag);
await refused(412, () => fleets.create(group, "f", { location: "westeurope" }, { ifMatch: fleet.eTag, ...fast }));
assert.deepEqual((await all(fleets.listByResourceGroup(group))).map((f) => f.name), ["f"]);

for (const [number, clusterResourceId] of clusters.entries()) {
  const member = await fleetMembers.create(group, "f", `m${number}`, { properties: { clusterResourceId, group: `g${number % 2}` } }, fast);
  assert.equal(member.name, `m${number}`);
}
assert.equal((await all(fleetMembers.listByFleet(group, "f"))).length, clusters.length);
await refused(409, () => fleetMembers.create(group, "f", "twice", { properties: { clusterResourceId: clusters[0] } }, fast));

const stages = [
  { name: "s0", groups: [{ name: "g0" }] },
  { name: "s1", groups: [{ name: "g1" }], afterStageWaitInSeconds: 3600 },
];
const strategy = await fleetUpdateStrategies.createOrUpdate(group, "f", "st", { properties: { strategy: { stages } } }, fast);
const managedClusterUpdate = { upgrade: { type: "ControlPlaneOnly", kubernetesVersion: "1.33.2" } };
const wish = { properties: { updateStrategyId: strategy.id, managedClusterUpdate } };
const run = await updateRuns.createOrUpdate(group, "f", "r", wish, fast);
assert.equal(run.properties.status.status.state, "NotStarted");

const state = (r) => r.properties.status.status.state;
const read = () => updateRuns.get(group, "f", "r");
await updateRuns.start(group, "f", "r", fast);
await updateRuns.stop(group, "f", "r", fast);
await until("stopped right after the start", read, (r) => state(r) === "Stopped");
await updateRuns.start(group, "f", "r", fast);
assert.notEqual(state(await read()), "Stopped");
await until("running", read, (r) => state(r) === "Running");
await updateRuns.stop(group, "f", "r", fast);
await until("stopped", read, (r) => state(r) === "Stopped");
const last = `m${clusters.length - 1}`;
await updateRuns.skip(group, "f", "r", { targets: [{ type: "Member", name: last }] }, fast);
await refused(400, () => updateRuns.skip(group, "f", "r", { targets: [{ type: "Group", name: "none" }] }, fast));
await updateRuns.start(group, "f", "r", fast);
await until("waiting", read, (r) => r.properties.status.stages[1].afterStageWaitStatus?.status.state === "Running");
await updateRuns.skip(group, "f", "r", { targets: [{ type: "AfterStageWait", name: "s1" }] }, fast);
const ended = await until("completed", read, (r) => state(r) === "Completed");
const members = ended.properties.status.stages.flatMap((s) => s.groups).flatMap((g) => g.members);
assert.deepEqual(
  members.map((m) => [m.name, m.status.state]).sort(),
  clusters.map((_, n) => [`m${n}`, `m${n}` === last ? "Skipped" : "Completed"]).sort(),
);

assert.ok((await all(client.operations.list())).length > 10);
await refused(404, () => fleets.get(group, "none"));
await updateRuns.delete(group, "f", "r", fast);
await fleetUpdateStrategies.delete(group, "f", "st", fast);
await fleetMembers.delete(group, "f", "m0", fast);
await fleets.delete(group, "f", fast);
await refused(404, () => fleets.get(group, "f"));
const begun = await arm("DELETE", `/resourcegroups/${group}`);
assert.equal(begun.status, 202);
await until("group deleted", () => arm("GET", begun.headers.get("location")), (answer) => answer.status === 200);
console.log(`@azure/arm-containerservicefleet on Node.js ${process.version}: passed`);
