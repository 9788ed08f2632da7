import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KubeClient } from "../../src/kube/index.ts";
import { LeaderElection, LeadershipLostError, connectKube } from "../../src/kube/index.ts";
import { type LogFields, type Logger, silentLogger } from "../../src/lib/logger.ts";
import type { ControlPlane } from "../cluster/index.ts";
import { skipWithout } from "../lab/index.ts";
import { eventually, failureOf, startWorld } from "./world.ts";

const times = { leaseMs: 3000, renewDeadlineMs: 2000, retryMs: 300 };

/** A logger that notes what is told from `info` on. */
function telling(said: string[]): Logger {
  const at =
    (level: string) =>
    (_: LogFields, message: string): void =>
      void said.push(`${level}: ${message}`);
  return { ...silentLogger, info: at("info"), warn: at("warn"), error: at("error"), child: () => telling(said) };
}

/** A candidate and what it did: when it began to lead and when it was told to stop, on one clock. */
class Candidate {
  readonly election: LeaderElection;
  readonly stop: AbortController = new AbortController();
  readonly done: Promise<unknown>;
  begun: number | null = null;
  told: number | null = null;

  constructor(client: KubeClient, name: string, identity: string, lastMs: number = 0) {
    this.election = new LeaderElection(client, { namespace: "default", name, identity, ...times });
    const lead = async (leadership: AbortSignal): Promise<void> => {
      this.begun = performance.now();
      await new Promise((resolve) => leadership.addEventListener("abort", resolve));
      this.told = performance.now();
      await new Promise((resolve) => setTimeout(resolve, lastMs));
    };
    this.done = this.election.run(this.stop.signal, lead).then(
      () => "ended",
      (thrown: unknown) => thrown,
    );
  }
}

describe.skipIf(skipWithout("cluster"))("leadership", () => {
  let plane: ControlPlane;
  const clients: KubeClient[] = [];
  beforeAll(async () => {
    const world = await startWorld();
    plane = world.plane;
    clients.push(world.client, await connectKube({ kubeconfig: plane.admin.kubeconfig }));
  });
  afterAll(async () => {
    for (const client of clients) client.close();
    await plane.stop();
  });
  const candidate = (place: number, name: string, lastMs?: number): Candidate =>
    new Candidate(clients[place] as KubeClient, name, `${name}-${place}`, lastMs);

  test("is one's alone, and goes over at once when given back, but not before the work has ended", async () => {
    const first = candidate(0, "handover", 4000);
    await eventually(() => first.begun !== null);
    const second = candidate(1, "handover");
    await eventually(() => second.election.leader === "handover-0");
    await new Promise((resolve) => setTimeout(resolve, times.leaseMs + 500));
    expect([second.begun, first.election.isLeader, second.election.isLeader]).toEqual([null, true, false]);

    first.stop.abort(new Error("shut down"));
    // Longer than a lease lasts: it is renewed while the work comes to its end.
    expect(await first.done).toBe("ended");
    const ended = performance.now();
    expect(second.begun).toBeNull();
    await eventually(() => second.begun !== null);
    expect(performance.now() - ended).toBeLessThan(2 * times.retryMs + 500);
    expect(first.election.isLeader).toBe(false);
    const lease = await plane.admin.get<{ spec: object }>("lease", "handover");
    expect(lease.spec).toMatchObject({ holderIdentity: "handover-1", leaseDurationSeconds: 3, leaseTransitions: 1 });
    second.stop.abort();
    expect(await second.done).toBe("ended");
  });

  test("is taken over from one that has vanished, after the lease's time and not before", async () => {
    const seen = { leaseDurationSeconds: 3, renewTime: "2020-01-01T00:00:00.000000Z" };
    const metadata = { name: "vanished", namespace: "default" };
    await plane.admin.apply([
      { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec: { holderIdentity: "nobody", ...seen } },
    ]);
    const since = performance.now();
    const heir = candidate(0, "vanished");
    await eventually(() => heir.begun !== null);
    // Its clock may be years off: only what we saw of it counts.
    expect((heir.begun ?? 0) - since).toBeGreaterThan(times.leaseMs - 50);
    heir.stop.abort();
    await heir.done;
  });

  test("ends in time when the API server is away, and never are there two", async () => {
    const rivals = [candidate(0, "outage"), candidate(1, "outage")];
    await eventually(() => rivals.some(({ begun }) => begun !== null));
    const leader = rivals.find(({ begun }) => begun !== null) as Candidate;
    const other = rivals.find((rival) => rival !== leader) as Candidate;
    await eventually(() => other.election.leader !== "");
    await plane.stopApiServer();
    const since = performance.now();
    const failure = await leader.done;
    expect(failure).toBeInstanceOf(LeadershipLostError);
    expect(failure).toMatchObject({ message: expect.stringContaining("renewed in time") as string, cause: { code: "unavailable" } });
    expect((leader.told ?? 0) - since).toBeLessThan(times.renewDeadlineMs + 300);
    await new Promise((resolve) => setTimeout(resolve, times.leaseMs));
    expect(other.begun).toBeNull();
    await plane.startApiServer();
    await eventually(() => other.begun !== null);
    expect(other.begun ?? 0).toBeGreaterThan(leader.told ?? Infinity);
    other.stop.abort();
    await other.done;
  });

  test("is lost at once to who takes the lease by force, or deletes it", async () => {
    const robbed = candidate(0, "robbed");
    await eventually(() => robbed.begun !== null);
    await plane.admin.kubectl(["patch", "lease", "robbed", "--type=merge", "-p", '{"spec":{"holderIdentity":"thief"}}']);
    const since = performance.now();
    expect(await robbed.done).toMatchObject({ code: "leadership-lost", message: "leadership has gone to thief" });
    expect(performance.now() - since).toBeLessThan(1000);

    const bereft = candidate(0, "bereft");
    await eventually(() => bereft.begun !== null);
    await plane.admin.kubectl(["delete", "lease", "bereft"]);
    expect(await bereft.done).toBeInstanceOf(LeadershipLostError);
  });

  test("is kept while the client has more to do than it may", async () => {
    const busy = await connectKube({ kubeconfig: plane.admin.kubeconfig, qps: 5, burst: 5 });
    clients.push(busy);
    const leader = candidate(2, "busy");
    await eventually(() => leader.begun !== null);
    const aborter = new AbortController();
    const calls = Array.from({ length: 500 }, () => failureOf(busy.serverVersion({ signal: aborter.signal })).catch(() => "answered"));
    await new Promise((resolve) => setTimeout(resolve, 2 * times.renewDeadlineMs));
    expect([leader.told, leader.election.isLeader]).toEqual([null, true]);
    aborter.abort(new Error("enough"));
    await Promise.all(calls);
    leader.stop.abort();
    expect(await leader.done).toBe("ended");
  });

  test("is given back when the work ends or fails by itself", async () => {
    const make = (): LeaderElection =>
      new LeaderElection(clients[0] as KubeClient, { namespace: "default", name: "short", identity: "me", ...times });
    await make().run(new AbortController().signal, async () => {});
    expect((await plane.admin.get<{ spec: object }>("lease", "short")).spec).toMatchObject({ holderIdentity: "" });
    const failing = make().run(new AbortController().signal, () => Promise.reject(new Error("broken")));
    expect(await failureOf(failing)).toMatchObject({ message: "broken" });
  });

  test("ends well, and without a warning of it, where the role was taken away before: an uninstall does", async () => {
    await plane.admin.kubectl(["create", "serviceaccount", "leaver"]);
    await plane.admin.kubectl(["create", "role", "leader", "--verb=get,create,update", "--resource=leases.coordination.k8s.io"]);
    await plane.admin.kubectl(["create", "rolebinding", "leader", "--role=leader", "--serviceaccount=default:leaver"]);
    const { kubeconfig } = await plane.serviceAccount("default", "leaver");
    // The API server reads its roles a moment after they change.
    const can = ["auth", "can-i", "update", "leases.coordination.k8s.io", "--as=system:serviceaccount:default:leaver"];
    const may = async (): Promise<string> => (await plane.admin.kubectl(can).catch(() => "no")).trim();
    await eventually(async () => (await may()) === "yes");
    const client = await connectKube({ kubeconfig });
    const said: string[] = [];
    const stop = new AbortController();
    // Longer than the test: no renewal finds out before the end does.
    const long = { leaseMs: 600_000, renewDeadlineMs: 540_000, retryMs: 500_000 };
    const options = { namespace: "default", name: "uninstalled", identity: "leaver", logger: telling(said), ...long };
    try {
      await new LeaderElection(client, options).run(stop.signal, async (leadership) => {
        await plane.admin.kubectl(["delete", "role", "leader"]);
        await eventually(async () => (await may()) === "no");
        stop.abort(new Error("shut down"));
        leadership.throwIfAborted();
      });
    } finally {
      client.close();
    }
    expect(said).toEqual(["info: leading", expect.stringMatching(/^info: the lease is not given back: the role .* was taken away/)]);
    expect((await plane.admin.get<{ spec: object }>("lease", "uninstalled")).spec).toMatchObject({ holderIdentity: "leaver" });
  });

  test("wants times that leave room", () => {
    const make = (): unknown => new LeaderElection(clients[0] as KubeClient, { namespace: "a", name: "b", identity: "c", leaseMs: 5000 });
    expect(make).toThrow(RangeError);
  });
});
