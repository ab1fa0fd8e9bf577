// Images described instead of named. The names of members are QEMU's, so that what is written for it
// can be used here as it is.

import type { StorageEvent } from '../io/events.ts';

/** What every part of an {@link ImageDescription} may say. */
export interface NodeOptions {
  /** Refused with `read-only` where it would have to be written to. Default false. */
  readonly 'read-only'?: boolean;
  /** Keeps nobody out by image locks. Default: as {@link OpenOptions.forceShare}. */
  readonly 'force-share'?: boolean;
  /** Default: as {@link OpenOptions.cache}. */
  readonly cache?: {
    /** Goes around the host's cache. */
    readonly direct?: boolean;
    /** Ignores flushes. */
    readonly 'no-flush'?: boolean;
  };
  /** Taken, without effect: a name among QEMU's nodes, a letter first. */
  readonly 'node-name'?: string;
  /** Taken, without effect. */
  readonly 'auto-read-only'?: boolean;
  /** Taken, without effect. */
  readonly discard?: 'ignore' | 'unmap';
  /** Taken, without effect. */
  readonly 'detect-zeroes'?: 'off' | 'on' | 'unmap';
}

/** A regular file, or a device. */
export interface FileDescription extends NodeOptions {
  /** May be left out where the file is below another driver: whichever fits the file. */
  readonly driver?: 'file' | 'host_device';
  /** As it is: no protocol is looked for in it. */
  readonly filename: string;
  /** `off`: takes no image locks. Default `auto`. */
  readonly locking?: 'auto' | 'on' | 'off';
}

/** Nothing: reads as zeros, forgets what is written. */
export interface NullDescription extends NodeOptions {
  readonly driver: 'null-co';
  /** In bytes, 0 to 2^53 - 1. Default 1 GiB. */
  readonly size?: number;
  /** Says of itself that it is all zeros, so that nobody has to read it. Default false. */
  readonly 'read-zeroes'?: boolean;
  /** Nanoseconds that each request takes, 0 or more. Default 0. */
  readonly 'latency-ns'?: number;
}

/** An export of an NBD server. TLS needs a host that has the credentials: `Host.openNbd`. */
export interface NbdDescription extends NodeOptions {
  readonly driver: 'nbd';
  readonly server:
    | { readonly type: 'unix'; readonly path: string }
    /** `port`: a number, or the name of a service. */
    | { readonly type: 'inet'; readonly host: string; readonly port: string };
  /** Name of the export. Default: the empty one. */
  readonly export?: string;
  /** Name of the credentials for TLS. Default: nothing is encrypted. */
  readonly 'tls-creds'?: string;
  /** What the server's certificate has to be for. Default: the server's host. */
  readonly 'tls-hostname'?: string;
  /** How long requests wait for a lost connection to come back, in seconds. Default 0: they fail. */
  readonly 'reconnect-delay'?: number;
  /** How long opening tries to connect, in seconds. Default 0: once. */
  readonly 'open-timeout'?: number;
}

/** Injects errors into what it stands on. */
export interface DebugDescription extends NodeOptions {
  readonly driver: 'blkdebug';
  readonly image: ImageDescription;
  /** Name of a file with more rules. Default: none. */
  readonly config?: string;
  /** Requests that fail. Default: none. */
  readonly 'inject-error'?: readonly InjectErrorRule[];
  /** Changes of the state, which is 1 at first. Default: none. */
  readonly 'set-state'?: readonly SetStateRule[];
}

/** Requests fail that come after an event. */
export interface InjectErrorRule {
  /** What has to happen first; `none`: nothing, it is active from the start. */
  readonly event: StorageEvent;
  /** Only in this state; 0, the default: in any. */
  readonly state?: number;
  /** Default: all but `block-status`. */
  readonly iotype?: 'read' | 'write' | 'write-zeroes' | 'discard' | 'flush' | 'block-status';
  /** Linux's number, 1 or more. Default 5, EIO. */
  readonly errno?: number;
  /** Only requests that cover this sector of 512 bytes. Default: all. */
  readonly sector?: number;
  /** Only the first such request. Default false. */
  readonly once?: boolean;
}

/** The state changes with an event. */
export interface SetStateRule {
  /** What has to happen. */
  readonly event: StorageEvent;
  /** Only in this state; 0, the default: in any. */
  readonly state?: number;
  /** The state from then on. */
  readonly new_state: number;
}

/** Bytes as they are, or a part of them. */
export interface RawDescription extends NodeOptions {
  readonly driver: 'raw';
  readonly file: ImageDescription;
  /** First byte of the part. Default 0. */
  readonly offset?: number;
  /** Length of the part in bytes, a multiple of 512. Default: to the end. */
  readonly size?: number;
}

/**
 * `cached`: the header and all tables in use, but not the L2 tables of snapshots. `constant`: those
 * that are one piece each (neither L2 tables nor refcount blocks, nor the L1 tables of snapshots).
 * Source: QEMU's Qcow2OverlapCheckMode (qapi/block-core.json).
 */
export type OverlapTemplate = 'none' | 'constant' | 'cached' | 'all';

/** The structures one by one. Source: QEMU's Qcow2OverlapCheckFlags (qapi/block-core.json). */
export interface OverlapChecks {
  /** What those get that are not named. Default `cached`. */
  readonly template?: OverlapTemplate;
  readonly 'main-header'?: boolean;
  readonly 'active-l1'?: boolean;
  readonly 'active-l2'?: boolean;
  readonly 'refcount-table'?: boolean;
  readonly 'refcount-block'?: boolean;
  readonly 'snapshot-table'?: boolean;
  readonly 'inactive-l1'?: boolean;
  /** The L2 tables of snapshots: they are looked for in the file, once. */
  readonly 'inactive-l2'?: boolean;
  readonly 'bitmap-directory'?: boolean;
}

/** An image in the format qcow2. */
export interface Qcow2Description extends NodeOptions {
  readonly driver: 'qcow2';
  readonly file: ImageDescription;
  /**
   * The layer below; null: none. Default: as the image says. Where the image stores a name, that is
   * used, as in QEMU, unless this has a `file` with a `filename` of its own.
   */
  readonly backing?: ImageDescription | null;
  /** For an encrypted image. */
  readonly encrypt?: {
    /** Refused with `invalid` where the header says otherwise. Default: as it says. */
    readonly format?: 'luks' | 'aes';
    /** Name of the passphrase in {@link OpenOptions.secrets}. */
    readonly 'key-secret'?: string;
  };
  /** Most bytes of tables in memory, for this layer. Default: shared by the chain. */
  readonly 'cache-size'?: number;
  /** Taken, without effect. */
  readonly 'lazy-refcounts'?: boolean;
  /** Structures that nothing else is written over, whatever a damaged image says. */
  readonly 'overlap-check'?: OverlapTemplate | OverlapChecks;
}

/** An image whose format is found in its first bytes. */
export interface ProbedDescription extends NodeOptions {
  readonly driver?: never;
  readonly file: ImageDescription;
  /**
   * The layer below; null: none. Default: as the image says. Where the image stores a name, that is
   * used, as in QEMU, unless this has a `file` with a `filename` of its own.
   */
  readonly backing?: ImageDescription | null;
}

/**
 * An image, described instead of named: what QEMU writes as `json:{...}`, as an object. The whole of
 * it is looked at when it is opened: what nobody knows is refused with `invalid`, a driver of QEMU
 * that is not supported here with `unsupported`.
 *
 * Source: QEMU's BlockdevOptions (qapi/block-core.json).
 */
export type ImageDescription =
  | FileDescription
  | NullDescription
  | NbdDescription
  | DebugDescription
  | RawDescription
  | Qcow2Description
  | ProbedDescription;
