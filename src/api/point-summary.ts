import { type Static, Type } from "typebox";

import { record } from "./contract.ts";

export const pointLevels = ["full", "incremental", "differential", "copy"] as const;
export const pointConsistencies = ["filesystem", "crash", "offline"] as const;

const orNull = Type.Union([Type.String(), Type.Null()]);
const bytes = Type.Integer({ minimum: 0 });

/** A restore point as a catalog has it. */
export const pointSummarySchema = record({
  id: Type.String(),
  seq: Type.Integer({ minimum: 1 }),
  /** RFC 3339, by the store's clock */
  time: Type.String(),
  vm: record({ name: Type.String(), uid: orNull }),
  parent: orNull,
  level: Type.Enum([...pointLevels]),
  consistency: Type.Enum([...pointConsistencies]),
  disks: Type.Array(record({ name: Type.String(), size: bytes, level: Type.Enum([...pointLevels]), uploadedBytes: bytes })),
  captures: Type.Array(record({ name: Type.String(), size: bytes })),
  warnings: Type.Array(Type.String()),
  /** Absent: no hold in the repository keeps it. */
  held: Type.Optional(Type.Literal(true)),
});
export type PointSummary = Static<typeof pointSummarySchema>;
