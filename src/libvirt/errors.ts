import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** The closed list of what can go wrong at libvirt; `failed` is any other error of libvirt's own, told apart by `libvirtCode`. */
export type LibvirtErrorCode =
  | "library-missing"
  | "unreachable"
  | "access-denied"
  | "closed"
  | "no-domain"
  | "no-checkpoint"
  | "no-backup"
  | "no-storage"
  | "exists"
  | "checkpoint-inconsistent"
  | "agent-unresponsive"
  | "timeout"
  | "busy"
  | "invalid-state"
  | "unsupported"
  | "invalid-xml"
  | "failed";

/** What libvirt itself said: numbers of virErrorNumber and virErrorDomain, and its message. */
export interface NativeError {
  readonly code: number;
  readonly domain: number;
  readonly message: string;
}

const codes: Readonly<Record<number, LibvirtErrorCode>> = {
  3: "unsupported", // VIR_ERR_NO_SUPPORT
  5: "unreachable", // VIR_ERR_NO_CONNECT
  9: "failed", // VIR_ERR_OPERATION_FAILED
  27: "invalid-xml", // VIR_ERR_XML_ERROR
  28: "exists", // VIR_ERR_DOM_EXIST
  29: "access-denied", // VIR_ERR_OPERATION_DENIED
  35: "invalid-xml", // VIR_ERR_XML_DETAIL
  38: "failed", // VIR_ERR_SYSTEM_ERROR
  39: "unreachable", // VIR_ERR_RPC
  42: "no-domain", // VIR_ERR_NO_DOMAIN
  45: "access-denied", // VIR_ERR_AUTH_FAILED
  49: "no-storage", // VIR_ERR_NO_STORAGE_POOL
  50: "no-storage", // VIR_ERR_NO_STORAGE_VOL
  55: "invalid-state", // VIR_ERR_OPERATION_INVALID
  67: "unsupported", // VIR_ERR_CONFIG_UNSUPPORTED
  68: "timeout", // VIR_ERR_OPERATION_TIMEOUT
  74: "unsupported", // VIR_ERR_ARGUMENT_UNSUPPORTED
  79: "access-denied", // VIR_ERR_AUTH_CANCELLED
  84: "unsupported", // VIR_ERR_OPERATION_UNSUPPORTED
  86: "agent-unresponsive", // VIR_ERR_AGENT_UNRESPONSIVE
  87: "busy", // VIR_ERR_RESOURCE_BUSY
  88: "access-denied", // VIR_ERR_ACCESS_DENIED
  97: "agent-unresponsive", // VIR_ERR_AGENT_UNSYNCED
  103: "no-checkpoint", // VIR_ERR_NO_DOMAIN_CHECKPOINT
  104: "no-backup", // VIR_ERR_NO_DOMAIN_BACKUP
  109: "checkpoint-inconsistent", // VIR_ERR_CHECKPOINT_INCONSISTENT
};

/** libvirt refused or failed; `libvirtCode` and `libvirtDomain` are libvirt's own numbers, 0 where the error is ours. */
export class LibvirtError extends ThinstreamError<LibvirtErrorCode> {
  override readonly name = "LibvirtError";
  readonly libvirtCode: number;
  readonly libvirtDomain: number;
  /** libvirt's own words; empty where the error is ours. */
  readonly libvirtMessage: string;

  constructor(code: LibvirtErrorCode, message: string, details: ErrorDetails & { readonly native?: NativeError } = {}) {
    super(code, message, details);
    this.libvirtCode = details.native?.code ?? 0;
    this.libvirtDomain = details.native?.domain ?? 0;
    this.libvirtMessage = details.native?.message ?? "";
  }

  /** The error of a call that failed: `what` says what was tried. */
  static of(what: string, native: NativeError | undefined, fallback: LibvirtErrorCode = "failed"): LibvirtError {
    if (native === undefined) return new LibvirtError(fallback, `${what} failed, and libvirt gave no reason`);
    const code = codes[native.code] ?? fallback;
    return new LibvirtError(code === "failed" ? fallback : code, `${what} failed: ${native.message} (libvirt error ${native.code})`, {
      native,
    });
  }
}
