import { createHash } from "node:crypto";

import type { BackupRepository, BackupWork } from "../../api/index.ts";
import type { ControllerContext } from "../context.ts";
import { captureMachine } from "../kubevirt/capture.ts";
import type { ReadyWork } from "./source.ts";

/** The name of a machine's objects among a point's captures. */
export const OBJECTS_FILE = "kubernetes.json";

/** A backup's work with what is kept of the machine beside its disks. */
export interface CapturingWork {
  readonly work: BackupWork;
  /** beside the order, by name */
  readonly files: Readonly<Record<string, string>>;
  /** What the run's end has to say besides what the agent says. */
  readonly warnings: readonly string[];
}

/** Fetches what is kept with the point: last of all, so that it is as the machine is when the run begins. */
export async function withCaptures(
  { client }: ControllerContext,
  { decision, repository }: { readonly decision: ReadyWork; readonly repository: BackupRepository },
  signal: AbortSignal,
): Promise<CapturingWork> {
  const { work, facts } = decision;
  if (facts === null) return { work, files: {}, warnings: [] };
  const encrypted = repository.spec.encryption.mode === "ClientSide";
  const captured = await captureMachine(client, facts, { encrypted, signal });
  const digest = `sha256:${createHash("sha256").update(captured.text).digest("hex")}`;
  return {
    work: { ...work, captures: [{ name: OBJECTS_FILE, digest }] },
    files: { [OBJECTS_FILE]: captured.text },
    warnings: captured.warnings,
  };
}
