import type { Level } from "../backup-source.ts";
import type { BaseFacts } from "../base-facts.ts";
import { holdsBitmaps, type ImageInfo } from "../qemu-img.ts";

export interface ImagePlan {
  readonly level: Level;
  readonly reason: string;
  readonly base: BaseFacts | null;
}

/** What a plan is made from. */
export interface PlanInput {
  readonly info: ImageInfo;
  /** What lies below the image. */
  readonly backing: readonly ImageInfo[];
  readonly level: "auto" | Level;
  readonly bases: readonly BaseFacts[];
}

/** Decides level and base of an image that no machine has open: only a bitmap that the image holds in good order is believed. */
export function planImage(name: string, { info, backing, level, bases }: PlanInput): ImagePlan {
  if (level === "copy") return { level, reason: "", base: null };
  const barrier = imageBarrier(info);
  if (level === "full") return { level, reason: barrier, base: null };
  const base = bases.find((one) => one.disk === name) ?? null;
  if (barrier !== "") return { level: "full", reason: barrier, base: null };
  if (base === null) return { level: "full", reason: "no earlier point tracks this disk's changes", base };
  const reason = bitmapBarrier(info, base.checkpoint) || chainBarrier(info, backing, base);
  if (reason !== "") return { level: "full", reason, base: null };
  return { level: level === "differential" ? "differential" : "incremental", reason: "", base };
}

function imageBarrier(info: ImageInfo): string {
  if (info.format !== "qcow2") return `a ${info.format} image cannot keep track of changes, so everything is read and compared`;
  if (!holdsBitmaps(info)) return "a qcow2 version 2 image (compat=0.10) cannot keep track of changes, so everything is read and compared";
  if (info["format-specific"]?.data?.["data-file"] !== undefined) {
    return "the image's raw store may have been changed without trace while no machine ran, so everything is read and compared";
  }
  return "";
}

function bitmapBarrier(info: ImageInfo, name: string): string {
  const bitmap = bitmapsOf(info).find((one) => one.name === name);
  if (bitmap === undefined) return `the image no longer holds the bitmap ${name}`;
  if (bitmap.flags.includes("in-use")) return `the bitmap ${name} was not saved when the machine last ended`;
  if (!bitmap.flags.includes("auto")) return `the bitmap ${name} stopped counting changes`;
  return "";
}

/** A bitmap counts the writes to its own image. It knows nothing of what went into another, or of another that took its backing file's place. */
function chainBarrier(info: ImageInfo, backing: readonly ImageInfo[], base: BaseFacts): string {
  if (backing.some((below) => bitmapsOf(below).some((one) => one.name === base.checkpoint))) {
    return `changes since the last point went into several images of the chain, and ${base.checkpoint} of this one counts only its own`;
  }
  const then = base.imageInfo as Partial<ImageInfo> | null;
  if (then === null || typeof then !== "object" || then["backing-filename"] === info["backing-filename"]) return "";
  return "the image has another backing file than at its last point";
}

function bitmapsOf(info: ImageInfo): readonly { readonly name: string; readonly flags: readonly string[] }[] {
  return info["format-specific"]?.data?.bitmaps ?? [];
}
