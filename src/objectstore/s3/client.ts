import type { S3Client } from "@aws-sdk/client-s3";
import { hideValue } from "../../lib/scrub.ts";
import type { S3Location } from "../url.ts";
import { StoreClock } from "./store-clock.ts";

type Sdk = typeof import("@aws-sdk/client-s3");

/** The SDK, loaded, with a client for one location. */
export interface S3Session {
  readonly sdk: Sdk;
  readonly client: S3Client;
  readonly clock: StoreClock;
}

export interface S3Options {
  /** Whose credentials, of the SDK's shared configuration files; default: the SDK's usual chain. */
  readonly profile?: string;
  /** Connections at most; more calls wait for one. Default 64. */
  readonly sockets?: number;
  /** milliseconds to connect; default 10,000 */
  readonly connectTimeout?: number;
  /** milliseconds without a byte in either direction; default 60,000 */
  readonly idleTimeout?: number;
}

/** Loads the SDK, a tenth of a second and 40 MB or so: only users of S3 pay for it. Nothing is sent yet. */
export async function openSession(location: S3Location, options: S3Options): Promise<S3Session> {
  const [sdk, http, https] = await Promise.all([import("@aws-sdk/client-s3"), import("node:http"), import("node:https")]);
  const { sockets = 64, connectTimeout = 10_000, idleTimeout = 60_000 } = options;
  const agentOptions = { keepAlive: true, maxSockets: sockets, maxFreeSockets: sockets };
  const region = location.region ?? (location.endpoint === null || regionIsConfigured() ? null : "us-east-1");
  const client = new sdk.S3Client({
    ...(location.endpoint === null ? {} : { endpoint: location.endpoint }),
    ...(region === null ? {} : { region }),
    ...(options.profile === undefined ? {} : { profile: options.profile }),
    forcePathStyle: location.pathStyle,
    // Retries are the wrapper's, which knows the whole call's time and what a lost answer means.
    maxAttempts: 1,
    // The adapter sends its own checksum, and asks for one back where it reads whole objects; the SDK's own would be a second pass.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // With it the SDK opens a new connection for every large PUT, and waits a round trip in each.
    expectContinueHeader: false,
    // A moved bucket is an error to report, not a place to send data to.
    followRegionRedirects: false,
    requestHandler: {
      connectionTimeout: connectTimeout,
      socketTimeout: idleTimeout,
      httpAgent: new http.Agent(agentOptions),
      httpsAgent: new https.Agent(agentOptions),
    },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
  const clock = new StoreClock();
  client.middlewareStack.add(
    (next) => async (args) => {
      await hideCredentials(client);
      const result = await next(args);
      clock.observe(result.response);
      return result;
    },
    // Next to the wire, so that error answers pass too.
    { step: "deserialize", priority: "low", name: "storeClock" },
  );
  return { sdk, client, clock };
}

/** A server's answer may quote a request's headers, where the session token stands, and end in a message. */
async function hideCredentials({ config }: S3Client): Promise<void> {
  // The request is signed already, so they are at hand; without any it was not.
  const found = await config.credentials().catch(() => null);
  hideValue(found?.secretAccessKey);
  hideValue(found?.sessionToken);
}

function regionIsConfigured(): boolean {
  return Boolean(process.env["AWS_REGION"] ?? process.env["AWS_DEFAULT_REGION"] ?? process.env["AWS_PROFILE"]);
}
