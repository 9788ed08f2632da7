import { LabError } from "./exec.ts";
import type { S3Lab } from "./s3.ts";
import { amzDate, authorization, sha256 } from "./sigv4.ts";

/** What credentials may do with every bucket, e.g. `s3:GetObject`. */
export type S3Action = `s3:${string}`;

/** Bounds what the bucket of the lab may hold; null lifts the bound. An object as large as the bound is refused at once, the sum of several later. */
export async function setQuota(lab: S3Lab, bytes: number | null): Promise<void> {
  const body = JSON.stringify({ quota: bytes ?? 0, quotatype: "hard" });
  await send(lab, { method: "PUT", path: "/minio/admin/v3/set-bucket-quota", query: `bucket=${lab.bucket}`, body });
}

/** The environment of a user who may do these actions and nothing else, for an hour. */
export async function restricted(lab: S3Lab, actions: readonly S3Action[]): Promise<NodeJS.ProcessEnv> {
  return await underPolicy(lab, {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: actions, Resource: ["arn:aws:s3:::*"] }],
  });
}

/** The environment of a user whom this policy binds, for an hour. */
export async function underPolicy(lab: S3Lab, policy: object): Promise<NodeJS.ProcessEnv> {
  const Policy = JSON.stringify(policy);
  const body = new URLSearchParams({ Action: "AssumeRole", Version: "2011-06-15", DurationSeconds: "3600", Policy }).toString();
  const answer = await send(lab, { method: "POST", path: "/", query: "", body });
  const of = (name: string): string => new RegExp(`<${name}>([^<]+)</${name}>`).exec(answer)?.[1] ?? "";
  return {
    AWS_ACCESS_KEY_ID: of("AccessKeyId"),
    AWS_SECRET_ACCESS_KEY: of("SecretAccessKey"),
    AWS_SESSION_TOKEN: of("SessionToken"),
    AWS_REGION: lab.region,
  };
}

interface Request {
  readonly method: "PUT" | "POST";
  readonly path: string;
  readonly query: string;
  readonly body: string;
}

async function send(lab: S3Lab, { body, ...request }: Request): Promise<string> {
  const headers = {
    ...(request.method === "POST" ? { "content-type": "application/x-www-form-urlencoded" } : {}),
    host: new URL(lab.endpoint).host,
    "x-amz-content-sha256": sha256(body),
    "x-amz-date": amzDate(),
  };
  const signature = authorization({ ...request, headers }, lab, request.method === "POST" ? "sts" : "s3");
  const { host: _set, ...sent } = headers;
  const answer = await fetch(`${lab.endpoint}${request.path}${request.query === "" ? "" : `?${request.query}`}`, {
    method: request.method,
    body,
    headers: { ...sent, authorization: signature },
  });
  const text = await answer.text();
  if (!answer.ok) throw new LabError(`the S3 server refused ${request.path}: ${answer.status} ${text}`);
  return text;
}
