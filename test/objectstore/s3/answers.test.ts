/* oxlint-disable vitest/expect-expect -- expectCode asserts */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseStoreUrl, probeStore, type S3Location, type StoreErrorCode } from "../../../src/objectstore/index.ts";
import { S3ObjectStore } from "../../../src/objectstore/s3/index.ts";
import { expectCode } from "../../contract/objectstore.ts";
import { listen } from "./damaging-proxy.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const error =
  (status: number, code: string, message = `about ${code}`): Answer =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/xml", "x-amz-request-id": "R1" });
    response.end(code === "" ? "" : `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`);
  };

/** The keys a store lists. */
async function all(store: S3ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("")) keys.push(key);
  return keys;
}

/** What real servers do rarely or never on demand, said by a server that says anything. */
describe("S3 store and the answers of servers", () => {
  let server: Server;
  let endpoint: string;
  let answer: Answer;
  let requests: IncomingMessage[];
  let store: S3ObjectStore;

  beforeEach(async () => {
    process.env["AWS_ACCESS_KEY_ID"] = "AKTEST";
    process.env["AWS_SECRET_ACCESS_KEY"] = "test-secret";
    requests = [];
    server = createServer((request, response) => {
      requests.push(request);
      // Real servers read the body before they answer, mostly.
      request.resume().once("end", () => answer(request, response));
    });
    endpoint = await listen(server);
    store = new S3ObjectStore(parseStoreUrl(`s3://bucket/p?endpoint=${endpoint}`) as S3Location, { idleTimeout: 300 });
  });
  afterEach(async () => {
    await store.close();
    server.closeAllConnections();
    server.close();
  });

  it.each<[number, string, StoreErrorCode]>([
    [503, "SlowDown", "unavailable"],
    [503, "XMinioServerNotInitialized", "unavailable"],
    [503, "", "unavailable"],
    [500, "InternalError", "unavailable"],
    [502, "", "unavailable"],
    [429, "TooManyRequests", "unavailable"],
    [400, "RequestTimeout", "timeout"],
    [408, "", "timeout"],
    [403, "AccessDenied", "access-denied"],
    [403, "InvalidAccessKeyId", "access-denied"],
    [403, "SignatureDoesNotMatch", "access-denied"],
    [400, "ExpiredToken", "access-denied"],
    [403, "", "access-denied"],
    [507, "XMinioStorageFull", "no-space"],
    [507, "", "no-space"],
    [400, "XMinioAdminBucketQuotaExceeded", "no-space"],
    [403, "QuotaExceeded", "no-space"],
    [400, "BadDigest", "checksum-mismatch"],
    [400, "XAmzContentSHA256Mismatch", "checksum-mismatch"],
    [501, "NotImplemented", "no-conditional-writes"],
    [412, "PreconditionFailed", "already-exists"],
    [400, "InvalidRequest", "failed"],
    [301, "PermanentRedirect", "failed"],
  ])("%i %s is %s", async (status, code, expected) => {
    answer = error(status, code);
    const failure = await expectCode(store.putIfAbsent("k", Buffer.from("x")), expected);
    expect(failure.message).toMatch(/\bk\b/);
    expect(requests.length).toBe(1);
  });

  it.each([
    { status: 404, name: "NoSuchBucket", code: "bucket-missing", said: 'the bucket "bucket" does not exist at http://127.0.0.1:' },
    { status: 507, name: "XMinioStorageFull", code: "no-space", said: 'the bucket "bucket" is full: cannot create k: ' },
    { status: 500, name: "InternalError", text: "cause(no space left on device)", code: "no-space", said: 'the bucket "bucket" is full: ' },
    { status: 403, name: "AccessDenied", code: "access-denied", said: 'access to the bucket "bucket" is denied: cannot create k: ' },
  ] as const)("$status $name is said of the bucket", async ({ status, name, code, said, ...more }) => {
    answer = error(status, name, "text" in more ? more.text : "the server's own words");
    const failure = await expectCode(store.putIfAbsent("k", Buffer.from("x")), code);
    expect(failure.message.startsWith(said)).toBe(true);
    expect([failure.hint === undefined, failure.temporary]).toEqual([false, false]);
  });

  it.each<[string, boolean]>([
    ["already-exists", true],
    ["unavailable", false],
  ])("a conflict of creations is %s when the object there is %s", async (expected, isThere) => {
    answer = (request, response) => {
      if (request.method === "PUT") error(409, "ConditionalRequestConflict")(request, response);
      else response.writeHead(isThere ? 200 : 404).end();
    };
    await expectCode(store.putIfAbsent("k", Buffer.from("x")), expected as StoreErrorCode);
  });

  it("has no answer in time: timeout", async () => {
    answer = () => undefined;
    await expectCode(store.get("k"), "timeout");
  });

  it("has an answer that stalls: timeout", async () => {
    answer = (_request, response) =>
      void response.writeHead(206, { "content-length": 100, "content-range": "bytes 0-99/100" }).write("part");
    await expectCode(store.read("k", 0, new Uint8Array(100)), "timeout");
  });

  it.each(["get", "read"])("has an answer that is cut (%s): unavailable", async (operation) => {
    answer = (_request, response) => {
      const crc = { "x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-type": "FULL_OBJECT" };
      response.writeHead(operation === "get" ? 200 : 206, { "content-length": 100, "content-range": "bytes 0-99/100", ...crc });
      response.write("part");
      setTimeout(() => response.socket?.destroy(), 20);
    };
    await expectCode(operation === "get" ? store.get("k") : store.read("k", 0, new Uint8Array(100)), "unavailable");
  });

  it("has the connection refused: unavailable", async () => {
    const closed = createServer();
    const address = await listen(closed);
    closed.close();
    const unreachable = new S3ObjectStore(parseStoreUrl(`s3://bucket/p?endpoint=${address}`) as S3Location);
    expect((await expectCode(unreachable.get("k"), "unavailable")).temporary).toBe(true);
    await unreachable.close();
  });

  it("has no region: invalid-url, with what to do", async () => {
    process.env["AWS_CONFIG_FILE"] = "/dev/null";
    delete process.env["AWS_REGION"];
    delete process.env["AWS_DEFAULT_REGION"];
    const nowhere = new S3ObjectStore(parseStoreUrl("s3://bucket/p") as S3Location);
    expect((await expectCode(nowhere.get("k"), "invalid-url")).hint).toContain("region=");
    await nowhere.close();
  });

  it("refuses ranges that are not honoured, and bodies that are too long", async () => {
    answer = (_request, response) => void response.writeHead(200, { "content-length": 1000 }).end(Buffer.alloc(1000));
    await expectCode(store.read("k", 5, new Uint8Array(10)), "failed");
    await expectCode(store.read("k", 0, new Uint8Array(10)), "failed");
    await expectCode(store.get("k", { maxBytes: 999 }), "too-large");
  });

  it("tells a store without conditional writes by its acts", async () => {
    answer = (_request, response) => void response.writeHead(200).end();
    await expectCode(probeStore(store), "no-conditional-writes");
  });

  it("signs bodies for a store that answers without a checksum, and stops where one answers with it", async () => {
    answer = (_request, response) => void response.writeHead(200).end();
    await store.put("a", Buffer.from("123456789"));
    answer = (request, response) =>
      void response.writeHead(200, { "x-amz-checksum-crc32": String(request.headers["x-amz-checksum-crc32"]) }).end();
    await store.put("b", Buffer.from("123456789"));
    await store.put("c", Buffer.from("123456789"));
    const sha256 = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    expect(requests.map((request) => request.headers["x-amz-content-sha256"])).toEqual([sha256, sha256, "UNSIGNED-PAYLOAD"]);
    expect(requests.every((request) => request.headers["x-amz-checksum-crc32"] === "y/Q5Jg==")).toBe(true);
    expect(requests.every((request) => request.headers["content-length"] === "9" && request.headers.expect === undefined)).toBe(true);
  });

  it("takes the time from the store", async () => {
    const storeTime = new Date("2031-03-04T05:06:07Z");
    answer = (_request, response) => void response.writeHead(403, { date: storeTime.toUTCString() }).end();
    const now = await store.now();
    expect(now.getTime() - storeTime.getTime()).toBeGreaterThanOrEqual(0);
    expect(now.getTime() - storeTime.getTime()).toBeLessThan(2000);
    await store.now();
    expect(requests.length).toBe(1);
  });

  it("rejects calls in flight when it is closed", async () => {
    answer = () => undefined;
    const call = expectCode(store.get("k"), "closed");
    setTimeout(() => void store.close(), 50);
    await call;
  });

  it("refuses a listing out of order", async () => {
    const contents = ["b", "a"].map((key) => `<Contents><Key>p/${key}</Key><Size>1</Size></Contents>`).join("");
    answer = (_request, response) =>
      void response.writeHead(200).end(`<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`);
    const listing = store.list("")[Symbol.asyncIterator]();
    expect((await listing.next()).value).toMatchObject({ key: "b", size: 1 });
    await expectCode(listing.next(), "failed");
  });

  const page = (body: string): string =>
    `<?xml version="1.0"?><ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></Contents>${body}</ListBucketResult>`;

  it.each<[string, string, StoreErrorCode?]>([
    ["nothing", ""],
    ["a proxy's page", "<html><body><h1>It works!</h1></body></html>"],
    ["an error under 200", "<Error><Code>InternalError</Code><Message>later</Message></Error>", "unavailable"],
    ["a list without its end", page("")],
    ["a list that goes on nowhere", page("<IsTruncated>true</IsTruncated>")],
    ["a list that goes round", page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")],
  ])("takes %s for no list of objects, present or past", async (_what, body, code = "failed") => {
    answer = (_request, response) => void response.writeHead(200, { "content-type": "application/xml" }).end(body);
    const past = new S3ObjectStore(parseStoreUrl(`s3://bucket/p?endpoint=${endpoint}&at=2030-01-01T00:00:00Z`) as S3Location);
    const versions = store.locks;
    for (const one of [store, past]) await expectCode(all(one), code);
    await expectCode(past.get("a"), code);
    if (versions === undefined) throw new Error("S3 has locks");
    await expectCode(versions.versions("", null), code);
    await past.close();
  });

  it("does not trust a store that says it keeps something else than it was sent", async () => {
    answer = (_request, response) => void response.writeHead(200, { "x-amz-checksum-crc32": "AAAAAA==" }).end();
    await expectCode(store.put("a", Buffer.from("123456789")), "checksum-mismatch");
    await expectCode(store.putIfAbsent("a", Buffer.from("123456789")), "checksum-mismatch");
  });
});
