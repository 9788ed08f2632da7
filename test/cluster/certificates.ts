import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../lab/index.ts";

/** A certificate and its private key, as files in PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** Whom a certificate is for: a subject like `/O=system:masters/CN=admin`, and the names and addresses of a server. */
export interface Bearer {
  readonly subject: string;
  readonly names?: readonly string[];
}

/** Signs certificates in a directory of its own. */
export class Authority {
  readonly root: Certificate;
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
    this.root = files(dir, "ca");
  }

  static async create(dir: string): Promise<Authority> {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    // With a configuration of its own, openssl adds nothing of the machine's.
    writeFileSync(join(dir, "openssl.cnf"), "[req]\ndistinguished_name = subject\n[subject]\n");
    const authority = new Authority(dir);
    const extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash"];
    await authority.#request(authority.root, "/CN=lab", extensions);
    return authority;
  }

  async issue(name: string, { subject, names = [] }: Bearer): Promise<Certificate> {
    const issued = files(this.#dir, name);
    const alternatives = names.map((one) => (/^[\d.]+$/.test(one) ? `IP:${one}` : `DNS:${one}`)).join(",");
    const extensions = [
      "basicConstraints=critical,CA:FALSE",
      "keyUsage=critical,digitalSignature",
      "extendedKeyUsage=clientAuth,serverAuth",
      ...(alternatives === "" ? [] : [`subjectAltName=${alternatives}`]),
    ];
    await this.#request(issued, subject, extensions, ["-CA", this.root.cert, "-CAkey", this.root.key]);
    return issued;
  }

  async #request(to: Certificate, subject: string, extensions: readonly string[], signer: readonly string[] = []): Promise<void> {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", to.key];
    const added = extensions.flatMap((extension) => ["-addext", extension]);
    const config = ["-config", join(this.#dir, "openssl.cnf")];
    await run("openssl", ["req", "-x509", ...config, ...key, "-days", "30", "-subj", subject, ...added, ...signer, "-out", to.cert]);
  }
}

/** The key that signs service accounts' tokens. In this form the API server takes it for both halves. */
export function signingKey(file: string): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(file, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  return file;
}

function files(dir: string, name: string): Certificate {
  return { cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) };
}
