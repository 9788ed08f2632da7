import { join } from "node:path";
import { type S3Lab, startS3 } from "../../lab/index.ts";
import { type DelayProxy, delayProxy } from "../delay-proxy.ts";
import { alternate, type Contestant, type Series } from "../measure.ts";
import { backup, expectLevel, init, type Repo } from "../ours.ts";
import { type DataVm, forgetCheckpoints } from "../vm.ts";
import { type Measured, ratioOf, type World } from "./world.ts";

/** Row 4: a store that is a way off. */
export async function latencyRow(world: World): Promise<Measured> {
  const vm = await world.vm();
  const series = await alternate([to(world, vm, 0), to(world, vm, 10)], world.runs);
  const [near, far] = series as [Series, Series];
  return {
    title: `Full backup into S3, ${(vm.bytes / 2 ** 30).toFixed(2)} GiB of data, near and 10 ms away`,
    series,
    bars: [{ what: "throughput with 10 ms round trips, of that with none", value: ratioOf(near, far) * 100, unit: "%", least: 80 }],
    notes: [
      `${world.describe(vm)}; the S3 server (MinIO, data on the same file system), QEMU, the proxy and thinstream share the processors.`,
      "Both sides go through a TCP proxy (test/bench/delay-proxy.ts) that holds each byte 0 or 5 ms in each direction, a new connection 10 ms more, and limits no bandwidth; slow start and loss are not played.",
    ],
  };
}

function to(world: World, vm: DataVm, roundTrip: number): Contestant {
  const { lab } = world;
  let s3: S3Lab;
  let proxy: DelayProxy;
  let repo: Repo;
  return {
    name: `thinstream to S3, ${roundTrip} ms`,
    bytes: vm.bytes,
    prepare: async () => {
      await forgetCheckpoints(vm.domain);
      s3 = await startS3();
      proxy = await delayProxy(Number(new URL(s3.endpoint).port), roundTrip / 2);
      const url = `s3://${s3.bucket}/bench?endpoint=http://127.0.0.1:${proxy.port}&region=${s3.region}`;
      repo = { url, keyFile: join(lab.dir, "s3-key"), env: s3.env };
      await init(repo);
    },
    run: async () => {
      const done = await backup(repo, { uri: lab.uri, name: vm.domain.name });
      expectLevel(done, "full");
      return done.took;
    },
    after: async () => {
      await proxy.close();
      await s3.stop();
    },
  };
}
