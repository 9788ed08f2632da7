/**
 * Nodes for a control plane of `test/cluster`: pods that the scheduler binds run as processes of this machine. With volumes, logs,
 * and the faults of nodes.
 */
export type { KubeObject, Meta } from "./api.ts";
export { Api, ApiError, ignore, persist } from "./api.ts";
export { Informer } from "./informer.ts";
export type { Image } from "./image.ts";
export { plainImage, projectImage } from "./image.ts";
export type { Condition, Container, Pod, Volume } from "./pod.ts";
export { nameOf, podPath } from "./pod.ts";
export { bytesOf } from "./provisioner.ts";
export type { SimulatorOptions } from "./simulator.ts";
export { NodeSimulator } from "./simulator.ts";
