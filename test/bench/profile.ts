import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setInterval as every } from "node:timers";
import { say } from "./measure.ts";
import { backup, init, type Repo, restore } from "./ours.ts";
import type { World } from "./rows/world.ts";
import { type DataVm, forgetCheckpoints, freshDir } from "./vm.ts";

/** Where the time of one of our runs went. */
export interface Profile {
  readonly what: string;
  /** bytes it dealt with */
  readonly bytes: number;
  readonly seconds: number;
  /** processor seconds by kind of thread, as the kernel counts them */
  readonly threads: Readonly<Record<string, number>>;
  /** seconds by stage in the worker threads and in the main thread, as V8's profiler samples them; waiting left out */
  readonly stages: readonly { readonly thread: "worker" | "main"; readonly stage: string; readonly seconds: number }[];
}

/** One full backup and one restore under V8's profiler. */
export async function measureProfiles(world: World): Promise<Profile[]> {
  const vm = await world.vm();
  const { lab } = world;
  const repo: Repo = { url: `file://${join(freshDir(lab, "ours"), "repo")}`, keyFile: join(lab.dir, "profile-key") };
  await forgetCheckpoints(vm.domain);
  await init(repo);
  const target = { uri: lab.uri, name: vm.domain.name };
  const first = await profiled(world, { what: "full backup", vm }, async (env) => (await backup(repo, target, { env })).took.seconds);
  const output = freshDir(lab, "output");
  const second = await profiled(
    world,
    { what: "restore to raw", vm },
    async (env) => (await restore({ ...repo, env }, output, "raw")).took.seconds,
  );
  return [first, second];
}

async function profiled(
  world: World,
  { what, vm }: { readonly what: string; readonly vm: DataVm },
  work: (env: NodeJS.ProcessEnv) => Promise<number>,
): Promise<Profile> {
  const dir = join(world.lab.dir, "profile");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir);
  const threads = new ThreadTimes();
  const timer = every(() => threads.look(), 50);
  try {
    const seconds = await work({ NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${dir}` });
    const profile = { what, bytes: vm.bytes, seconds, threads: threads.sums(), stages: stagesOf(dir) };
    say(JSON.stringify(profile));
    return profile;
  } finally {
    clearInterval(timer);
  }
}

const KINDS: Readonly<Record<string, string>> = {
  MainThread: "main thread",
  WorkerThread: "worker threads",
  "libuv-worker": "input and output (libuv's pool)",
  V8Worker: "V8's garbage collection and compilation",
};
/** the kernel's clock ticks of /proc, per second */
const TICKS = 100;

/** Adds up what the threads of the program used, by looking at it again and again until it is gone. */
class ThreadTimes {
  readonly #ticks = new Map<string, { readonly kind: string; readonly ticks: number }>();

  look(): void {
    for (const pid of readdirSync("/proc")) {
      if (!/^\d+$/.test(pid) || !isOurs(pid)) continue;
      for (const task of safely(() => readdirSync(`/proc/${pid}/task`)) ?? []) {
        const stat = safely(() => readFileSync(`/proc/${pid}/task/${task}/stat`, "utf8"));
        const match = /\((.+)\) (.+)$/.exec((stat ?? "").trimEnd());
        if (match === null) continue;
        const [, name = "", rest = ""] = match;
        const fields = rest.split(" ");
        this.#ticks.set(task, { kind: KINDS[name] ?? "other threads", ticks: Number(fields[11]) + Number(fields[12]) });
      }
    }
  }

  /** seconds */
  sums(): Record<string, number> {
    const sums: Record<string, number> = {};
    for (const { kind, ticks } of this.#ticks.values()) sums[kind] = (sums[kind] ?? 0) + ticks / TICKS;
    return sums;
  }
}

function isOurs(pid: string): boolean {
  return safely(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.includes("bench/app/dist/cli/main.js") ?? false;
}

/** undefined for a process that ended meanwhile */
function safely<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** First match, from the innermost frame outwards: file or function to stage. */
const STAGES: readonly (readonly [RegExp, string])[] = [
  [/^\(idle\)/, "idle"],
  [/^\(garbage collector\)/, "garbage collection"],
  [/\/format\/lz4\./, "lz4"],
  [/\/format\/hash\./, "hash"],
  [/\/format\/frame\./, "seal and open"],
  [/^(?:de)?compress|\/format\/codec\./, "lz4"],
  [/\/nbd\//, "NBD calls"],
  [/\/objectstore\//, "store"],
  [/\/crunch\//, "passing batches between threads"],
  [/\/write\/pack-stream\./, "packing"],
  [/\/map\//, "map"],
  [/\/restore\/targets\//, "writing the target"],
  [/\/(?:write|read|agent|restore)\//, "the rest of the pipeline"],
  [/\/libvirt\//, "libvirt calls"],
  [/module_job|\/cli\/|esm\/|compileForInternalLoader/, "start"],
];

function stagesOf(dir: string): Profile["stages"] {
  const sums = new Map<string, number>();
  for (const name of readdirSync(dir)) {
    // CPU.<date>.<time>.<pid>.<thread>.<number>.cpuprofile
    const thread = name.split(".")[4] === "0" ? "main" : "worker";
    for (const [stage, seconds] of stagesOfThread(JSON.parse(readFileSync(join(dir, name), "utf8")) as CpuProfile)) {
      const key = `${thread}/${stage}`;
      sums.set(key, (sums.get(key) ?? 0) + seconds);
    }
  }
  const stages = [...sums].filter(([key]) => !key.endsWith("/idle"));
  return stages
    .map(([key, seconds]) => ({
      thread: key.startsWith("main") ? ("main" as const) : ("worker" as const),
      stage: key.slice(key.indexOf("/") + 1),
      seconds,
    }))
    .toSorted((a, b) => b.seconds - a.seconds);
}

function stagesOfThread(profile: CpuProfile): Map<string, number> {
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id] as const)));
  const stages = new Map<number, string>();
  const stageOf = (id: number): string => {
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const frame = nodes.get(at)?.callFrame;
      const found = STAGES.find(([pattern]) => pattern.test(frame?.functionName ?? "") || pattern.test(frame?.url ?? ""));
      if (found !== undefined) return found[1];
    }
    return "Node itself";
  };
  const sums = new Map<string, number>();
  for (const [i, id] of profile.samples.entries()) {
    const stage = stages.get(id) ?? stageOf(id);
    stages.set(id, stage);
    sums.set(stage, (sums.get(stage) ?? 0) + (profile.timeDeltas[i] ?? 0) / 1e6);
  }
  return sums;
}
