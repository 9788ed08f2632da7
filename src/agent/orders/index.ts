/** What carries out a work order. */
export { readWorkOrder } from "./order-files.ts";
export { runOrder } from "./run-order.ts";
