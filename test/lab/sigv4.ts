import { createHash, createHmac } from "node:crypto";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface SignedRequest {
  readonly method: string;
  readonly path: string;
  /** without the question mark */
  readonly query: string;
  /** lower-case names; every one of them is signed. `host`, `x-amz-date` and `x-amz-content-sha256` must be among them. */
  readonly headers: Readonly<Record<string, string>>;
}

const REGION = "us-east-1";

/** The `authorization` header of a request, by AWS Signature Version 4: for what the SDK has no command for, and for proxies that change a request. */
export function authorization(request: SignedRequest, credentials: Credentials, service: "s3" | "sts" = "s3"): string {
  const { headers } = request;
  const date = headers["x-amz-date"] ?? "";
  const scope = `${date.slice(0, 8)}/${REGION}/${service}/aws4_request`;
  const names = Object.keys(headers).toSorted();
  const canonical = [
    request.method,
    request.path,
    request.query.split("&").toSorted().join("&"),
    ...names.map((name) => `${name}:${(headers[name] ?? "").trim()}`),
    "",
    names.join(";"),
    headers["x-amz-content-sha256"] ?? "",
  ].join("\n");
  const key = [date.slice(0, 8), REGION, service, "aws4_request"].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = hmac(key, ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n")).toString("hex");
  return `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
}

/** Time as `x-amz-date` has it. */
export function amzDate(): string {
  return new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "");
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
