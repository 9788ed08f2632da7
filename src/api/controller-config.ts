import { type Static, Type } from "typebox";

import { parseContract, record } from "./contract.ts";

const name = Type.String({ minLength: 1, maxLength: 253 });
const quantities = Type.Record(Type.String({ minLength: 1, maxLength: 63 }), Type.String({ minLength: 1, maxLength: 32 }));
const resources = record({ requests: Type.Optional(quantities), limits: Type.Optional(quantities) });
const seconds = Type.Integer({ minimum: 1, maximum: 86_400 });

const toleration = record({
  key: Type.Optional(Type.String()),
  operator: Type.Optional(Type.Enum(["Exists", "Equal"])),
  value: Type.Optional(Type.String()),
  effect: Type.Optional(Type.String()),
  tolerationSeconds: Type.Optional(Type.Integer()),
});

/** The controller's configuration file, as the chart writes it. */
const schema = record({
  version: Type.Literal(1),
  /** where the operator and its agents run */
  namespace: name,
  /** of the agents: the controller's own */
  image: Type.String({ minLength: 1, maxLength: 1024 }),
  imagePullPolicy: Type.Enum(["Always", "IfNotPresent", "Never"]),
  imagePullSecrets: Type.Array(name, { maxItems: 16 }),
  /** the kubelet's root directory on every node */
  kubeletRoot: Type.String({ pattern: "^/" }),
  /** backups at a time in the whole cluster */
  maxAgents: Type.Integer({ minimum: 1, maximum: 10_000 }),
  /** seconds between two readings of a repository's catalog */
  syncSeconds: seconds,
  /** port that agents answer the controller on */
  agentPort: Type.Integer({ minimum: 1024, maximum: 65_535 }),
  /** port of `/healthz`, `/readyz` and `/metrics`; default 8080 */
  metricsPort: Type.Optional(Type.Integer({ minimum: 1024, maximum: 65_535 })),
  agent: record({
    priorityClassName: Type.Union([name, Type.Null()]),
    serviceAccount: Type.Union([name, Type.Null()]),
    tolerations: Type.Array(toleration, { maxItems: 32 }),
    resources,
    holderResources: resources,
    /** SELinux type of agents that have a machine's directories, such as `spc_t` */
    selinuxType: Type.Union([name, Type.Null()]),
  }),
});

export type ControllerConfigFile = Static<typeof schema>;

/** Reads the configuration file. Throws `ContractError`. */
export function parseControllerConfig(text: string): ControllerConfigFile {
  return parseContract(schema, text, "The controller's configuration");
}
