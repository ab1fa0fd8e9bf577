// What the engine asks of the machine besides bytes: opening files by name, names, space, codecs.
// Implemented by node-host.ts; tests and other platforms bring their own.

import type { Storage } from './storage.ts';

/**
 * How files are cached: `none` goes around the page cache, `writethrough` makes each write durable,
 * `directsync` does both, `unsafe` ignores flushes.
 */
export type CacheMode = 'none' | 'writeback' | 'unsafe' | 'directsync' | 'writethrough';

/** How a host opens a file. */
export interface OpenStorageOptions {
  /** For reading and writing; else for reading alone. */
  readonly writable: boolean;
  /** Default `writeback`. */
  readonly cache?: CacheMode;
  /** False: takes no locks, and heeds none. Default true. */
  readonly locking?: boolean;
  /**
   * Hears the real path of what was opened, as far as the machine tells, before anything else is done
   * with it. What it throws ends the opening.
   */
  readonly checkOpened?: (realPath: string) => void;
}

/** Where an NBD server is. */
export type NbdServerAddress =
  | { readonly type: 'unix'; readonly path: string }
  /** `port`: a number, or the name of a service. */
  | { readonly type: 'inet'; readonly host: string; readonly port: string };

/** An export of an NBD server. */
export interface NbdTarget {
  /** What messages call it. */
  readonly filename: string;
  readonly server: NbdServerAddress;
  /** Name of the export; it may be empty. */
  readonly export: string;
  /** Name of the credentials for TLS; without it and `tls`, nothing is encrypted. */
  readonly tlsCreds?: string;
  /** TLS without credentials that have a name. */
  readonly tls?: {
    /** Directory of `ca-cert.pem` and the client's own. Default: the authorities of this machine. */
    readonly certificates?: string;
  };
  /** What the server's certificate has to be for. Default: the host that is connected to. */
  readonly tlsHostname?: string;
  /** How long requests wait for a lost connection to come back, in seconds; 0: they fail. */
  readonly reconnectDelay: number;
  /** How long opening tries to connect, in seconds; 0: once. */
  readonly openTimeout: number;
}

/** The hashes that encrypted images name. */
export type HashName = 'md5' | 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512' | 'ripemd160';

/** Encrypts or decrypts whole blocks of 16 bytes, each by itself; the result is the caller's. */
export type BlockCipher = (blocks: Uint8Array) => Uint8Array;

/** What encrypted images are made of; their modes of operation are built on it. */
export interface Crypto {
  /** AES with a key of 16, 24 or 32 bytes. */
  aes(key: Uint8Array, direction: 'encrypt' | 'decrypt'): BlockCipher;
  /** The digest of the bytes. */
  hash(name: HashName, bytes: Uint8Array): Uint8Array;
  /** PBKDF2 with HMAC of the hash: `length` bytes of key. `iterations` is at most 2^31 - 1. */
  pbkdf2(
    name: HashName,
    password: Uint8Array,
    salt: Uint8Array,
    iterations: number,
    length: number,
  ): Promise<Uint8Array>;
  /** Bytes that nobody can guess. */
  randomBytes(length: number): Uint8Array;
}

/**
 * Compression and decompression of clusters. What can't be decompressed is rejected with `corrupt`;
 * the ways to compress need not be there. A result may lie in `into`, of `size` bytes, where the
 * caller has memory for it; also when it fails, `into` may have been written to.
 */
export interface Codecs {
  /** Inflates a raw deflate stream to at most `size` bytes; fewer when it ends early. Trailing bytes are ignored. */
  inflateRaw(compressed: Uint8Array, size: number, into?: Uint8Array): Promise<Uint8Array>;
  /** Decompresses one zstd frame to at most `size` bytes. Trailing bytes are ignored. */
  decompressZstd(compressed: Uint8Array, size: number, into?: Uint8Array): Promise<Uint8Array>;
  /** A raw deflate stream whose window is 4 KiB, the most that QEMU inflates. */
  deflateRaw?(plain: Uint8Array): Promise<Uint8Array>;
  /** One zstd frame that tells the size of its content. */
  compressZstd?(plain: Uint8Array): Promise<Uint8Array>;
  /** For encrypted images; without it, they can be described but not read. */
  loadCrypto?(): Promise<Crypto>;
}

/** Which file a name means. */
export interface FileIdentity {
  /** Same for two names of one file (device and inode, or the real path). */
  readonly id: string;
  /** What it is; images are files and block devices. */
  readonly kind: 'file' | 'block-device' | 'character-device' | 'directory' | 'other';
}

/** What the engine asks of a machine: files by name, time, and codecs. */
export interface Host {
  /** For compressed clusters. */
  readonly codecs: Codecs;
  /** Monotonic milliseconds. */
  now(): number;
  /** Resolves after `milliseconds`, or rejects with the signal's reason. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
  /** Opens a file or block device. Rejects with an ImageError that carries the errno. */
  openStorage(filename: string, options: OpenStorageOptions): Promise<Storage>;
  /** Creates an empty file, truncating one that exists, and opens it for writing. */
  createStorage(
    filename: string,
    options?: Pick<OpenStorageOptions, 'checkOpened'>,
  ): Promise<Storage>;
  /**
   * Opens an export of an NBD server. Not there: such names are not supported. Rejects with `io` where
   * the server can't be reached or refuses, with `read-only` where it can't be written.
   */
  openNbd?(target: NbdTarget, options: { readonly writable: boolean }): Promise<Storage>;
  /** Undefined where there is no such file. */
  identify(filename: string): Promise<FileIdentity | undefined>;
  /** Absolute name without symbolic links; the absolute name where it can't be resolved. */
  realPath(filename: string): Promise<string>;
  /**
   * Names (not paths) of regular files and symbolic links in a directory, in no order. Bytes that are
   * not UTF-8 come as U+DC00 and their value, here and in the names of images.
   */
  listFiles(directory: string): Promise<readonly string[]>;
  /** Free bytes for us in the file system that holds the file; undefined where unknown. */
  freeSpace(filename: string): Promise<number | undefined>;
  /**
   * The file system that holds a file, the same for all files that share its space; undefined where
   * unknown, as where this is not implemented.
   */
  fileSystem?(filename: string): Promise<string | undefined>;
  /** Removes a file and makes the removal durable. */
  remove(filename: string): Promise<void>;
  /**
   * Asked before a file is opened because the header of an image names it: `name` as stored there,
   * `filename` as it resolves. Rejects with `invalid` where it must not be followed. Default: every
   * name may be.
   */
  checkNamed?(name: string, filename: string): Promise<void>;
}
