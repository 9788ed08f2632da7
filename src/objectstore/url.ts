import { isAbsolute, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { StoreError } from "./errors.ts";
import { isSegment } from "./keys.ts";

/** What a repository URL names. */
export type StoreLocation = FsLocation | S3Location;

export interface FsLocation {
  readonly kind: "fs";
  /** absolute */
  readonly path: string;
}

export interface S3Location {
  readonly kind: "s3";
  readonly bucket: string;
  /** Key segments joined by `/`, without a slash at either end; may be empty. */
  readonly prefix: string;
  /** `http://host:port` or `https://…`; null means Amazon's own for the region. */
  readonly endpoint: string | null;
  /** null means what the SDK's configuration says. */
  readonly region: string | null;
  /** Bucket in the path rather than in the host name; where the URL is silent, true exactly when it names an endpoint. */
  readonly pathStyle: boolean;
  /** The objects of a versioned bucket as they were then, to be read alone; null means as they are. */
  readonly at: Date | null;
}

const hint = "use file:///absolute/path or s3://bucket/prefix?endpoint=http://host:port&region=us-east-1";
const bucketName = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const regionName = /^[a-z0-9][a-z0-9-]{0,62}$/;
const maxLength = 2048;
const parameters = ["endpoint", "region", "pathStyle", "at"];

/**
 * Reads `file:///path` and `s3://bucket/prefix?endpoint=…&region=…&pathStyle=true|false`. Anything not understood throws `invalid-url`:
 * a misspelt parameter must not send backups elsewhere. A message never repeats what could be a credential.
 */
export function parseStoreUrl(text: string): StoreLocation {
  if (text.length > maxLength || hasControlCharacter(text)) throw invalid("it is too long or holds white space or control characters");
  if (text.startsWith("file:")) return parseFile(text);
  if (text.startsWith("s3://")) return parseS3(text.slice("s3://".length));
  throw invalid("it begins with neither file:/// nor s3://");
}

/** The URL that `parseStoreUrl` reads back as `location`; holds no secret, for messages. */
export function formatS3Url(location: S3Location): string {
  const query = new URLSearchParams();
  if (location.endpoint !== null) query.set("endpoint", location.endpoint);
  if (location.region !== null) query.set("region", location.region);
  if (location.pathStyle !== (location.endpoint !== null)) query.set("pathStyle", String(location.pathStyle));
  if (location.at !== null) query.set("at", location.at.toISOString());
  const path = location.prefix === "" ? "" : `/${location.prefix}`;
  const tail = query.size === 0 ? "" : `?${decodeURIComponent(query.toString())}`;
  return `s3://${location.bucket}${path}${tail}`;
}

function parseFile(text: string): FsLocation {
  if (!text.startsWith("file:///")) throw invalid("a file URL has three slashes and no host");
  if (/[?#]/.test(text)) throw invalid("a file URL has no parameters; write '?' as %3F and '#' as %23");
  let path: string;
  try {
    path = fileURLToPath(text);
  } catch (error) {
    throw invalid("its path is not correctly escaped", error);
  }
  if (!isAbsolute(path) || path.includes("\0")) throw invalid("its path is not usable");
  return { kind: "fs", path: normalize(path) };
}

function parseS3(rest: string): S3Location {
  const [place = "", query = "", ...more] = rest.split("?");
  if (more.length > 0 || rest.includes("#")) throw invalid("it holds a second '?' or a '#'");
  if (/[@:]/.test(place)) throw invalid("the part before '?' holds '@' or ':'; credentials and ports do not belong there");
  const [bucket, path] = splitOnce(place, "/");
  if (!bucketName.test(bucket) || bucket.includes("..")) throw invalid("the bucket name breaks S3's rules");
  const given = parseQuery(query);
  const endpoint = parseEndpoint(given.get("endpoint"));
  const region = parseRegion(given.get("region"));
  const pathStyle = parsePathStyle(given, endpoint);
  return { kind: "s3", bucket, prefix: parsePrefix(path), endpoint, region, pathStyle, at: parseMoment(given.get("at")) };
}

function parsePrefix(path: string): string {
  const prefix = path.replace(/\/$/, "");
  if (prefix.length > 256 || (prefix !== "" && !prefix.split("/").every(isSegment))) {
    throw invalid("the prefix may hold letters, digits, '.', '_', '-' and single slashes, 256 characters at most");
  }
  return prefix;
}

function parseQuery(query: string): Map<string, string> {
  const given = new Map<string, string>();
  for (const part of query === "" ? [] : query.split("&")) {
    const [name, value] = splitOnce(part, "=");
    if (!parameters.includes(name)) throw unknownParameter(name);
    if (given.has(name)) throw invalid(`it gives ${name} twice`);
    try {
      given.set(name, decodeURIComponent(value));
    } catch (error) {
      throw invalid(`the value of ${name} is not correctly escaped`, error);
    }
  }
  return given;
}

function unknownParameter(name: string): StoreError {
  const shown = /^[A-Za-z]{1,20}$/.test(name) ? ` '${name}'` : "";
  const secret = /key|secret|token|password|credential/i.test(name)
    ? "; credentials come from the environment, a profile or the instance"
    : "";
  return invalid(`it holds an unknown parameter${shown} (known: ${parameters.join(", ")})${secret}`);
}

function parseEndpoint(value: string | undefined): string | null {
  if (value === undefined) return null;
  if (!/^https?:\/\//.test(value) || !URL.canParse(value)) throw invalid("the endpoint is not http://host:port or https://host:port");
  const url = new URL(value);
  if (url.username !== "" || url.password !== "" || value.includes("@")) throw invalid("the endpoint holds credentials");
  if (/[?#\\]/.test(value)) throw invalid("the endpoint holds parameters");
  if (url.port === "0") throw invalid("the endpoint's port is 0");
  return url.origin + url.pathname.replace(/\/+$/, "");
}

function parseRegion(value: string | undefined): string | null {
  if (value === undefined) return null;
  if (!regionName.test(value)) throw invalid("the region may hold small letters, digits and '-'");
  return value;
}

function parseMoment(value: string | undefined): Date | null {
  if (value === undefined) return null;
  const moment = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z$/.test(value) ? new Date(value) : new Date(Number.NaN);
  if (Number.isNaN(moment.getTime())) throw invalid("at is a time in UTC such as 2026-11-20T04:00:00Z");
  return moment;
}

function parsePathStyle(given: ReadonlyMap<string, string>, endpoint: string | null): boolean {
  const value = given.get("pathStyle");
  if (value === undefined) return endpoint !== null;
  if (value !== "true" && value !== "false") throw invalid("pathStyle is true or false");
  return value === "true";
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + separator.length)];
}

function hasControlCharacter(text: string): boolean {
  return /[\p{Cc}\s]/u.test(text);
}

function invalid(why: string, cause?: unknown): StoreError {
  return new StoreError("invalid-url", `cannot use this repository URL: ${why}`, { hint, cause });
}
