import { type PointRecord, type Repository, vmId } from "../../src/repository/index.ts";
import { take } from "../repository/harness.ts";
import { MemoryDisk } from "../repository/memory-disk.ts";

/** Points of a machine at these times, oldest first: one backup, and the same again under other numbers. Gives their ids. */
export async function pointsAt(repository: Repository, vm: string, times: readonly string[]): Promise<string[]> {
  const disk = new MemoryDisk("vda", 65_536);
  disk.write(0, Buffer.from(vm));
  const ids: string[] = [];
  // The real one is of now: it is forgotten, so that only those of the given times are left.
  const real: PointRecord = await take(repository, [disk], { vm });
  const id = vmId(repository.keys, vm);
  for (const [i, time] of times.entries()) {
    const seq = real.seq + 1 + i;
    await repository.catalog.commit(id, { ...real, seq, id: `${id}-${seq}`, parent: null, time });
    ids.push(`${id}-${seq}`);
  }
  await repository.catalog.forget(real.id);
  await repository.catalog.writeHead(id, real.seq + times.length);
  return ids;
}
