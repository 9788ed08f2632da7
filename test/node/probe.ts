import { setTimeout as sleep } from "node:timers/promises";
import type { Pod } from "./pod.ts";

/** Asks a pod whether it is ready, as its readiness probe says, and tells when the answer changes. Probes other than httpGet are taken as passed. */
export async function probe(
  pod: Pod,
  podIP: string,
  { signal, tell }: { readonly signal: AbortSignal; readonly tell: (ready: boolean) => void },
): Promise<void> {
  const { readinessProbe, ports = [] } = pod.spec.containers[0] ?? {};
  const { httpGet, periodSeconds = 10 } = readinessProbe ?? {};
  if (httpGet === undefined) {
    tell(true);
    return;
  }
  const port = typeof httpGet.port === "number" ? httpGet.port : ports.find(({ name }) => name === httpGet.port)?.containerPort;
  const url = `${(httpGet.scheme ?? "HTTP").toLowerCase()}://${podIP}:${port}${httpGet.path ?? "/"}`;
  let was = false;
  while (!signal.aborted) {
    const is = await passes(url, signal);
    if (is !== was && !signal.aborted) tell(is);
    was = is;
    // Until it is ready it is asked more often, so that tests do not wait for the period.
    await sleep(is ? periodSeconds * 1000 : Math.min(periodSeconds * 1000, 300), undefined, { signal }).catch(() => undefined);
  }
}

async function passes(url: string, signal: AbortSignal): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(2000)]) }).catch(() => undefined);
  await answer?.body?.cancel();
  return answer !== undefined && answer.status >= 200 && answer.status < 400;
}
