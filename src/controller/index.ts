/** The control plane: watches the custom resources and brings the cluster to what they ask for, by agents. It never touches disk data. */
export type { ControllerConfig } from "./config.ts";
export type { PodSettings } from "./plan/pod-manifest.ts";
export { type ControllerOptions, runController } from "./run-controller.ts";
