import { XMLBuilder, XMLParser, XMLValidator } from "fast-xml-parser";

import { LibvirtXmlError } from "./xml-error.ts";

/** One element of an XML document whose order matters: libvirt gives meaning to it in places. */
export interface XmlElement {
  readonly tag: string;
  attributes: Record<string, string>;
  /** elements and text, in order */
  children: XmlNode[];
}

export type XmlNode = XmlElement | { text: string };

const options = {
  preserveOrder: true,
  ignoreAttributes: false,
  attributeNamePrefix: "",
  textNodeName: "#text",
  commentPropName: "#comment",
  processEntities: true,
};
const parser = new XMLParser({
  ...options,
  trimValues: false,
  parseTagValue: false,
  parseAttributeValue: false,
  ignoreDeclaration: true,
  ignorePiTags: true,
});
const builder = new XMLBuilder({ ...options, suppressBooleanAttributes: false });

/** Parses a document with one root element. Rejects anything else with a `LibvirtXmlError`. */
export function parseXml(text: string): XmlElement {
  // An entity declared in the document could grow without bound; libvirt never declares any.
  if (/<!(?:DOCTYPE|ENTITY)/i.test(text)) throw new LibvirtXmlError("The XML declares entities, which libvirt's never does");
  const valid = XMLValidator.validate(text);
  if (valid !== true) throw new LibvirtXmlError(`The XML is not well formed: ${valid.err.msg} in line ${valid.err.line}`);
  let nodes: XmlNode[];
  try {
    nodes = (parser.parse(text) as Raw[]).flatMap(fromRaw);
  } catch (cause) {
    throw new LibvirtXmlError("The XML cannot be read", { cause });
  }
  const roots = nodes.filter((node) => "tag" in node);
  if (roots.length !== 1 || roots[0] === undefined) throw new LibvirtXmlError("The XML has no single root element");
  return roots[0];
}

/** The document's text; what `parseXml` reads back as `root`. */
export function formatXml(root: XmlElement): string {
  return builder.build([toRaw(root)]);
}

export function elements(parent: XmlElement, tag?: string): XmlElement[] {
  return parent.children.filter((child): child is XmlElement => "tag" in child && (tag === undefined || child.tag === tag));
}

/** The first element at a path of tags. */
export function find(parent: XmlElement, ...path: readonly string[]): XmlElement | undefined {
  let at: XmlElement | undefined = parent;
  for (const tag of path) at = at === undefined ? undefined : elements(at, tag)[0];
  return at;
}

export function textOf(element: XmlElement | undefined): string {
  return (element?.children ?? [])
    .map((child) => ("text" in child ? child.text : ""))
    .join("")
    .trim();
}

export function setText(element: XmlElement, text: string): void {
  element.children = [{ text }];
}

export function remove(parent: XmlElement, ...tags: readonly string[]): void {
  parent.children = parent.children.filter((child) => !("tag" in child && tags.includes(child.tag)));
}

/** The child of that tag, made where there is none. */
export function ensure(parent: XmlElement, tag: string): XmlElement {
  const found = find(parent, tag);
  if (found !== undefined) return found;
  const made: XmlElement = { tag, attributes: {}, children: [] };
  parent.children.push(made);
  return made;
}

type Raw = Record<string, unknown>;

function fromRaw(raw: Raw): XmlNode[] {
  const attributes = (raw[":@"] ?? {}) as Record<string, string>;
  return Object.entries(raw).flatMap(([tag, value]): XmlNode[] => {
    if (tag === ":@" || tag === "#comment") return [];
    if (tag === "#text") return [{ text: String(value) }];
    return [{ tag, attributes: { ...attributes }, children: (value as Raw[]).flatMap(fromRaw) }];
  });
}

function toRaw(node: XmlNode): Raw {
  if ("text" in node) return { "#text": node.text };
  const raw: Raw = { [node.tag]: node.children.map(toRaw) };
  if (Object.keys(node.attributes).length > 0) raw[":@"] = node.attributes;
  return raw;
}
