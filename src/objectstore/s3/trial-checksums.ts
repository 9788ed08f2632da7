import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { PutObjectCommandInput } from "@aws-sdk/client-s3";
import { type Check, missing, ok, type Trial, type Verdict, wrong } from "../conformance/check.ts";
import { StoreError } from "../errors.ts";
import type { Bucket } from "./trials.ts";

type Open = () => Promise<Bucket>;

const BODY: Buffer = Buffer.from("what is stored must be what was sent");
const OTHER: Buffer = Buffer.from("what is stored must be what was 5ent");

/** A checksum header whose value is of another body, by algorithm. */
const damages = {
  "CRC-32": { ChecksumCRC32: crc32Of(OTHER) },
  // Of OTHER: Node computes no CRC-32C.
  "CRC-32C": { ChecksumCRC32C: "AAAAAA==" },
  "SHA-256": { ChecksumSHA256: createHash("sha256").update(OTHER).digest("base64") },
} as const satisfies Record<string, Partial<PutObjectCommandInput>>;

/** Whether a store notices what is damaged on its way, and keeps what proves it later. */
export function checksumTrials(open: Open): readonly Check[] {
  return [
    {
      name: "damaged uploads are refused",
      need: "required",
      means: { ok: "what is damaged on its way is sent again", otherwise: "what is damaged on its way would be found at the restore" },
      run: async (trial) => {
        const bucket = await open();
        const refused = [await refuses(bucket, trial, damages["CRC-32"]), await refusesSigned(bucket, trial)];
        if (!refused.includes(true)) return wrong("neither a wrong CRC-32 nor a wrong signed SHA-256 of a body is noticed");
        return { state: "ok", detail: refused.every(Boolean) ? "" : refused[0] ? "by the CRC-32 alone" : "by the signed SHA-256 alone" };
      },
    },
    {
      name: "CRC-32 is kept with an object",
      need: "advised",
      means: {
        ok: "check --level checksum works, and bodies need no second checksum",
        otherwise:
          "check --level checksum finds nothing to compare; bodies are signed with their SHA-256 as well, which costs processor time",
      },
      run: async (trial) => await keepsCrc32(await open(), trial),
    },
    ...(["CRC-32", "CRC-32C", "SHA-256"] as const).map((name): Check => ({
      name: `a wrong ${name} is refused`,
      need: name === "CRC-32" ? "advised" : "optional",
      means: {
        ok: name === "CRC-32" ? "the checksum that travels with every object is heeded" : "not used",
        otherwise: name === "CRC-32" ? "the signed SHA-256 of a body has to do it" : "nothing lost: it is not used",
      },
      run: async (trial) =>
        (await refuses(await open(), trial, damages[name])) ? ok : missing("an object with a checksum of other bytes was accepted"),
    })),
  ];
}

async function keepsCrc32({ sdk, client, name, at, ask }: Bucket, { prefix, signal }: Trial): Promise<Verdict> {
  const place = { Bucket: name, Key: at(`${prefix}checksum`) };
  const ChecksumCRC32 = crc32Of(BODY);
  const options = { abortSignal: signal };
  await ask("put an object", client.send(new sdk.PutObjectCommand({ ...place, Body: BODY, ChecksumCRC32 }), options));
  const head = await ask("look at it", client.send(new sdk.HeadObjectCommand({ ...place, ChecksumMode: "ENABLED" }), options));
  if (head.ChecksumCRC32 === undefined) return missing("the store says no checksum of what it has");
  return head.ChecksumCRC32 === ChecksumCRC32 ? ok : wrong("the store says another checksum than that of the object");
}

async function refuses(bucket: Bucket, trial: Trial, damage: Partial<PutObjectCommandInput>): Promise<boolean> {
  const { sdk } = bucket;
  return await isRefused(bucket, trial, (place) => new sdk.PutObjectCommand({ ...place, Body: BODY, ...damage }));
}

async function refusesSigned(bucket: Bucket, trial: Trial): Promise<boolean> {
  const { sdk } = bucket;
  return await isRefused(bucket, trial, (place) => {
    const command = new sdk.PutObjectCommand({ ...place, Body: BODY });
    command.middlewareStack.add(
      (next) => (args) => {
        setContentHash(args.request, createHash("sha256").update(OTHER).digest("hex"));
        return next(args);
      },
      { step: "build", name: "contentHash" },
    );
    return command;
  });
}

type Put = InstanceType<Bucket["sdk"]["PutObjectCommand"]>;

/** Whether a PUT is refused for what is in it: not for want of rights, and not by silence. */
async function isRefused(
  bucket: Bucket,
  { prefix, signal }: Trial,
  put: (place: { Bucket: string; Key: string }) => Put,
): Promise<boolean> {
  const { client, name, at, ask } = bucket;
  try {
    await ask("put an object", client.send(put({ Bucket: name, Key: at(`${prefix}damaged`) }), { abortSignal: signal }));
    return false;
  } catch (thrown) {
    const refusal = thrown instanceof StoreError && ["checksum-mismatch", "failed"].includes(thrown.code);
    if (!refusal) throw thrown;
    return true;
  }
}

function setContentHash(request: unknown, value: string): void {
  if (typeof request !== "object" || request === null || !("headers" in request)) return;
  (request.headers as Record<string, string>)["x-amz-content-sha256"] = value;
}

function crc32Of(bytes: Uint8Array): string {
  const digest = Buffer.alloc(4);
  digest.writeUInt32BE(crc32(bytes));
  return digest.toString("base64");
}
