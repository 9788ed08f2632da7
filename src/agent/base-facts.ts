/** What the repository knows of a disk that an incremental may stand on. Plain data: engines decide from it, they do not look things up. */
export interface BaseFacts {
  /** Target name, e.g. `vda`. */
  readonly disk: string;
  /** id of the point at which `checkpoint` was made */
  readonly point: string;
  /** bytes, of the disk at that point */
  readonly size: number;
  readonly checkpoint: string;
  /** The checkpoint as libvirt described it then, to define it anew where libvirt forgot it; null when it was not kept. */
  readonly checkpointXml: string | null;
  readonly imageInfo: unknown;
}
