// What is said of an image when it is opened, and before it is written.

import type { Checking } from './header.ts';
import type { OpenDataOptions } from './open-data.ts';
import type { StructureKind } from './overlap.ts';

export interface OpenImageOptions extends OpenDataOptions {
  /** Bound for tables in memory, in bytes. Default 16 MiB; at least eight tables are kept. */
  readonly cacheBytes?: number;
  /** Structures that nothing else is written over. Default: `GUARDED`. */
  readonly guarded?: ReadonlySet<StructureKind> | undefined;
  /** It is opened to be checked, and may lack a refcount table or have a broken snapshot table. */
  readonly checking?: Checking;
}

/** What its tables need of that. */
export interface TablesOptions extends Pick<OpenImageOptions, 'guarded'> {
  readonly cacheBytes: number;
}

export interface WriteIntent {
  /** The guest's view stays, so that what tracks it (bitmaps) stays right. */
  readonly dataUnchanged: boolean;
  /** Takes it for granted that the storage will have been made writable. */
  readonly writable?: boolean;
}
