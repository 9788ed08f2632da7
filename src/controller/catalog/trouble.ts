import type { FailureReason } from "../../api/index.ts";

/** How an agent's failure to use a repository reads in its conditions. */
export interface Trouble {
  readonly ready: string;
  readonly reachable: { readonly status: "True" | "False" | "Unknown"; readonly reason: string };
  readonly key: { readonly status: "True" | "False" | "Unknown"; readonly reason: string };
  readonly synced: string;
  /** Whether somebody has to act: else it passes, or may. */
  readonly stalls: boolean;
}

const unreached = (reason: string, stalls: boolean): Trouble => ({
  ready: reason,
  reachable: { status: "False", reason },
  key: { status: "Unknown", reason: "NotChecked" },
  synced: "SyncFailed",
  stalls,
});

const broken = (reason: string): Trouble => ({
  ready: reason,
  reachable: { status: "True", reason: "Reached" },
  key: { status: "Unknown", reason: "NotChecked" },
  synced: reason,
  stalls: true,
});

const TROUBLES: Partial<Record<FailureReason | "RepositoryReplaced" | "CredentialsMissing" | "KeyMissing", Trouble>> = {
  CredentialsMissing: unreached("CredentialsMissing", true),
  KeyMissing: {
    ready: "KeyMissing",
    reachable: { status: "Unknown", reason: "Connecting" },
    key: { status: "False", reason: "KeyMissing" },
    synced: "SyncFailed",
    stalls: true,
  },
  RepositoryReplaced: broken("RepositoryReplaced"),
  RepositoryUnreachable: unreached("EndpointUnreachable", false),
  RepositoryRefused: unreached("AccessDenied", true),
  RepositoryMissing: unreached("BucketNotFound", true),
  RepositoryDamaged: broken("RepositoryDamaged"),
  RepositoryTooNew: broken("FormatNotSupported"),
  WrongKey: { ...broken("WrongKey"), key: { status: "False", reason: "WrongKey" }, synced: "SyncFailed" },
};

const passing: Trouble = {
  ready: "CatalogNotSynced",
  reachable: { status: "Unknown", reason: "Connecting" },
  key: { status: "Unknown", reason: "NotChecked" },
  synced: "SyncFailed",
  stalls: false,
};

export function troubleOf(reason: string): Trouble {
  return (TROUBLES as Readonly<Record<string, Trouble>>)[reason] ?? passing;
}
