// Descriptions of images as a program writes them: objects with the names that QEMU's `json:{...}`
// and blockdev-add have. Checked where they are opened; these are the types alone.

import type { RequestKind } from '../io/blkdebug.ts';
import type { StorageEvent } from '../io/events.ts';
import type { JsonValue } from './qemu-json.ts';

/** A size in bytes, or as text with a suffix (`64k`). */
type Size = number | string;
/** `on` and `off` mean the same. */
type Bool = boolean | 'on' | 'off';

interface CommonDescription {
  readonly 'node-name'?: string;
  readonly 'read-only'?: Bool;
  readonly 'auto-read-only'?: Bool;
  readonly 'force-share'?: Bool;
  readonly cache?: { readonly direct?: Bool; readonly 'no-flush'?: Bool };
  readonly discard?: 'ignore' | 'unmap';
  readonly 'detect-zeroes'?: 'off' | 'on' | 'unmap';
}

/** A regular file, or a device. */
export interface FileDescription extends CommonDescription {
  /** Default: whichever fits the file. */
  readonly driver?: 'file' | 'host_device';
  readonly filename: string;
  readonly locking?: 'auto' | 'on' | 'off';
}

/** Nothing: reads as zeros, forgets what is written. */
export interface NullDescription extends CommonDescription {
  readonly driver: 'null-co';
  /** Default 1 GiB. */
  readonly size?: Size;
  readonly 'read-zeroes'?: Bool;
  /** Nanoseconds that each request takes. */
  readonly 'latency-ns'?: number;
}

/** Injects errors into what it stands on. */
export interface DebugDescription extends CommonDescription {
  readonly driver: 'blkdebug';
  readonly image: BlockDescription;
  /** Name of a file with rules. */
  readonly config?: string;
  readonly 'inject-error'?: readonly {
    readonly event: StorageEvent;
    readonly state?: number;
    readonly iotype?: RequestKind;
    /** Linux's number. Default 5, EIO. */
    readonly errno?: number;
    readonly sector?: number;
    readonly once?: Bool;
  }[];
  readonly 'set-state'?: readonly {
    readonly event: StorageEvent;
    readonly state?: number;
    readonly new_state: number;
  }[];
}

/** Bytes as they are, or a part of them. */
export interface RawDescription extends CommonDescription {
  readonly driver: 'raw';
  readonly file: BlockDescription;
  readonly offset?: Size;
  readonly size?: Size;
}

export interface Qcow2Description extends CommonDescription {
  readonly driver: 'qcow2';
  readonly file: BlockDescription;
  /** Null: none. Default: as the image says. */
  readonly backing?: BlockDescription | null;
  readonly 'cache-size'?: Size;
  readonly 'lazy-refcounts'?: Bool;
  readonly 'overlap-check'?: 'none' | 'constant' | 'cached' | 'all';
}

/** An image whose format its content tells. */
export interface ProbedDescription extends CommonDescription {
  readonly driver?: undefined;
  readonly file: BlockDescription;
  readonly backing?: BlockDescription | null;
}

export type BlockDescription =
  | FileDescription
  | NullDescription
  | DebugDescription
  | RawDescription
  | Qcow2Description
  | ProbedDescription;

/** As the parser takes it. */
export function asJson(description: BlockDescription): { readonly [key: string]: JsonValue } {
  return { ...description } as unknown as { readonly [key: string]: JsonValue };
}
