import { type ErrorDetails, ThinstreamError } from "../lib/errors.ts";

/** XML from libvirt, or kept with a point, is not what it should be. */
export class LibvirtXmlError extends ThinstreamError<"bad-xml"> {
  override readonly name = "LibvirtXmlError";

  constructor(message: string, details: ErrorDetails = {}) {
    super("bad-xml", message, details);
  }
}
