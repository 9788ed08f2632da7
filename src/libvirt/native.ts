import koffi, { type LibraryHandle, type TypeObject } from "koffi";
import { LibvirtError, type NativeError } from "./errors.ts";

/*
 * libvirt.so.0 by koffi: the functions we use under libvirt's own names, all asynchronous. Nothing is decided here.
 *
 * libvirt keeps the last error per thread, and asynchronous calls run on any thread of libuv's pool; it also copies every error to
 * the connection it belongs to, which `lastError` reads. Only opening has no connection: its error reaches the handler that this
 * file installs (which also keeps libvirt from printing errors to stderr).
 */

/** A libvirt object or other native address. */
export type Address = bigint;

/** What a call gives: a status number, an object, a string, or null. */
export type NativeResult = number | bigint | string | null;

/** Result kind and parameters of each function. `text` is a string that the caller must free, `constant` one of libvirt's own. */
const signatures = {
  virConnectOpen: ["object", "str"],
  virConnectClose: ["int", "void *"],
  virConnectGetLibVersion: ["int", "void *", "void *"],
  virConnectGetType: ["constant", "void *"],
  virConnectGetVersion: ["int", "void *", "void *"],
  virDomainLookupByName: ["object", "void *", "str"],
  virDomainLookupByUUIDString: ["object", "void *", "str"],
  virDomainDefineXMLFlags: ["object", "void *", "str", "uint"],
  virDomainCreateWithFlags: ["int", "void *", "uint"],
  virDomainDestroy: ["int", "void *"],
  virDomainUndefineFlags: ["int", "void *", "uint"],
  virDomainFree: ["int", "void *"],
  virDomainGetState: ["int", "void *", "void *", "void *", "uint"],
  virDomainIsPersistent: ["int", "void *"],
  virDomainGetInfo: ["int", "void *", "void *"],
  virDomainGetXMLDesc: ["text", "void *", "uint"],
  virDomainFSFreeze: ["int", "void *", "void *", "uint", "uint"],
  virDomainFSThaw: ["int", "void *", "void *", "uint", "uint"],
  virDomainAgentSetResponseTimeout: ["int", "void *", "int", "uint"],
  virDomainGetGuestInfo: ["int", "void *", "uint", "void *", "void *", "uint"],
  virDomainBackupBegin: ["int", "void *", "str", "str", "uint"],
  virDomainBackupGetXMLDesc: ["text", "void *", "uint"],
  virDomainAbortJob: ["int", "void *"],
  virDomainGetJobStats: ["int", "void *", "void *", "void *", "void *", "uint"],
  virDomainListAllCheckpoints: ["int", "void *", "void *", "uint"],
  virDomainCheckpointLookupByName: ["object", "void *", "str", "uint"],
  virDomainCheckpointCreateXML: ["object", "void *", "str", "uint"],
  virDomainCheckpointGetXMLDesc: ["text", "void *", "uint"],
  virDomainCheckpointDelete: ["int", "void *", "uint"],
  virDomainCheckpointFree: ["int", "void *"],
  virStoragePoolLookupByName: ["object", "void *", "str"],
  virStoragePoolFree: ["int", "void *"],
  virStorageVolLookupByName: ["object", "void *", "str"],
  virStorageVolGetPath: ["text", "void *"],
  virStorageVolFree: ["int", "void *"],
} as const;

export type LibvirtFunction = keyof typeof signatures;

/** One parameter of libvirt's typed lists. */
export type TypedParameters = Readonly<Record<string, string | number | bigint | boolean>>;

export interface LibvirtLibrary {
  /** Runs a function on a pool thread. `args` are addresses, strings, numbers, null, or typed arrays for what it fills in. */
  call(name: LibvirtFunction, ...args: readonly unknown[]): Promise<NativeResult>;
  /** Forgets the connection's last error, so that the next one is known to be new. */
  resetError(connection: Address): void;
  /** The connection's last error since `resetError`, or, without a connection, the last that any call raised. */
  lastError(connection: Address | null): NativeError | undefined;
  checkpointName(checkpoint: Address): string;
  domainId(domain: Address): number;
  /** Takes over an array of `count` objects that libvirt allocated. */
  takeObjects(array: Address, count: number): Address[];
  /** Takes over a list of typed parameters that libvirt allocated. */
  takeParameters(array: Address, count: number): TypedParameters;
  /** An argument of type `const char **`; null for none. */
  strings(values: readonly string[]): unknown;
}

interface NativeFunction {
  (...args: unknown[]): unknown;
  async(...args: unknown[]): void;
}

let loaded: LibvirtLibrary | undefined;

/** libvirt, loaded at the first call; throws `library-missing` where this machine has none. */
export function libvirtLibrary(): LibvirtLibrary {
  loaded ??= load();
  return loaded;
}

const handle = "void *";

function open(): LibraryHandle {
  try {
    return koffi.load("libvirt.so.0");
  } catch (cause) {
    throw new LibvirtError("library-missing", "libvirt.so.0 is not on this machine", {
      cause,
      hint: "install libvirt's client library (Debian: libvirt0)",
    });
  }
}

const PARAMETER_BYTES = 96; // virTypedParameter: char field[80]; int type; union of 8 bytes at 88

function load(): LibvirtLibrary {
  const library = open();
  const results: Readonly<Record<string, TypeObject | string>> = {
    object: handle,
    int: "int",
    constant: "str",
    text: koffi.disposable("str"),
  };
  const bound: Record<string, NativeFunction> = {};
  for (const [name, [result, ...parameters]] of Object.entries(signatures)) {
    bound[name] = library.func(name, results[result] ?? "int", parameters as unknown as string[]) as NativeFunction;
  }
  const error = koffi.struct({ code: "int", domain: "int", message: "str" });
  const decode = (address: Address): NativeError => koffi.decode(address, error) as NativeError;
  const freeParameters = library.func("virTypedParamsFree", "void", [handle, "int"]);
  const resetError = library.func("virConnResetLastError", "void", [handle]);
  const connectionError = library.func("virConnGetLastError", handle, [handle]);
  const checkpointName = library.func("virDomainCheckpointGetName", "str", [handle]);
  const domainId = library.func("virDomainGetID", "uint", [handle]);
  let latest: NativeError | undefined;
  const onError = koffi.register(
    (_data: unknown, address: Address) => {
      latest = decode(address);
    },
    koffi.pointer(koffi.proto("void", [handle, handle])),
  );
  library.func("virSetErrorFunc", "void", [handle, handle])(null, onError);
  return {
    call: (name, ...args) => promised(bound[name], args),
    resetError: (connection) => void resetError(connection),
    lastError: (connection) => {
      if (connection === null) return latest;
      const address = connectionError(connection) as Address | null;
      return address === null ? undefined : decode(address);
    },
    checkpointName: (checkpoint) => checkpointName(checkpoint) as string,
    domainId: (domain) => domainId(domain) as number,
    takeObjects: (array, count) => {
      const objects = Array.from(new BigUint64Array(koffi.view(array, count * 8).slice(0)));
      koffi.free(array);
      return objects;
    },
    takeParameters: (array, count) => {
      const list = Array.from({ length: count }, (_unused, index) => parameter(array + BigInt(index * PARAMETER_BYTES)));
      freeParameters(array, count);
      return Object.fromEntries(list);
    },
    strings: (values) => (values.length === 0 ? null : koffi.as(values, "const char **")),
  };
}

function parameter(address: Address): [string, string | number | bigint | boolean] {
  const name = koffi.decode.string(address);
  const value = address + 88n;
  switch (koffi.decode.int(address + 80n)) {
    case 1:
      return [name, koffi.decode.int(value)];
    case 2:
      return [name, koffi.decode.uint(value)];
    case 3:
    case 4:
      return [name, koffi.decode.int64(value)];
    case 5:
      return [name, koffi.decode.double(value)];
    case 6:
      return [name, koffi.decode.int8(value) !== 0];
    default:
      return [name, (koffi.decode(value, "str") as string | null) ?? ""];
  }
}

function promised(native: NativeFunction | undefined, args: readonly unknown[]): Promise<NativeResult> {
  return new Promise((resolve, reject) => {
    if (native === undefined) throw new LibvirtError("unsupported", "this function is not in libvirt's client library");
    native.async(...args, (error: Error | null | undefined, result: NativeResult) => {
      void args.length; // this closure keeps the buffers alive until the native call has ended
      if (error === null || error === undefined) resolve(result);
      else reject(error);
    });
  });
}
