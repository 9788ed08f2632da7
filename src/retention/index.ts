/** Which restore points stay and why: the operator's policies and `thinstream forget` decide by the same rules. */
export { planRetention, type RetainedPoint, retentionPreview, type RetentionRules, type RetentionVerdict } from "./plan-retention.ts";
export { firstOutOfTime, type TimedPoint } from "./doubt.ts";
