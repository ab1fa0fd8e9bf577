// The one error class of the library and its closed set of codes.
// Codes are API; messages are for people: what was found, in which file, what to do.

/**
 * Why an operation was refused or failed.
 *
 * - `invalid`: the caller asked for something that makes no sense (bad option, bad range).
 * - `not-found`: a file, or a layer that was named, is not there.
 * - `format`: the file is not an image of the expected format.
 * - `corrupt`: the image contradicts its own format.
 * - `unsupported`: the image is valid, but uses something that is not supported here.
 * - `read-only`: a write was asked of something that can't be written.
 * - `busy`: another process holds the image.
 * - `siblings`: other images depend on a layer that the commit would change.
 * - `no-space`: the file system or device has no room.
 * - `io`: the machine failed to read or write.
 */
export type ImageErrorCode =
  | 'invalid'
  | 'not-found'
  | 'format'
  | 'corrupt'
  | 'unsupported'
  | 'read-only'
  | 'busy'
  | 'siblings'
  | 'no-space'
  | 'io';

/** A process that has locked a file. */
export interface LockHolder {
  /** Its number, as it is seen from here. */
  readonly pid: number;
  /** What the kernel calls it: the first 15 characters of its program's name. */
  readonly name: string;
}

/** What an {@link ImageError} carries besides code and message. */
export interface ImageErrorDetails {
  /** The error behind it. */
  readonly cause?: unknown;
  /** Symbolic errno of the system call that failed, e.g. `ENOSPC`. */
  readonly errno?: string;
  /** A second line for the user: what to do next. */
  readonly hint?: string;
  /** With `busy`: finds out who has the file locked, as far as the system tells. */
  readonly findHolders?: () => readonly LockHolder[];
}

/** Every refusal and failure of this library; codes are stable, messages are for people. */
export class ImageError extends Error {
  /** For errors that crossed a border where `instanceof` ends. */
  override readonly name = 'ImageError';
  /** Why. */
  readonly code: ImageErrorCode;
  /** Symbolic errno of the system call that failed, e.g. `ENOSPC`; where there was one. */
  readonly errno: string | undefined;
  /** A second line for the user: what to do next; where there is something. */
  readonly hint: string | undefined;
  readonly #findHolders: () => readonly LockHolder[];
  #holders: readonly LockHolder[] | undefined;

  constructor(code: ImageErrorCode, message: string, details: ImageErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.errno = details.errno;
    this.hint = details.hint;
    this.#findHolders = details.findHolders ?? (() => []);
  }

  /**
   * With `busy`: who has the file locked, as far as the system tells; else nobody. Looked up when it
   * is asked for the first time, as that takes a while.
   */
  get holders(): readonly LockHolder[] {
    this.#holders ??= this.#findHolders();
    return this.#holders;
  }
}

/**
 * The same failure told in other words: its code, errno, hint and holders stay.
 *
 * @internal
 */
export function reworded(error: ImageError, message: string): ImageError {
  const { code, errno, hint } = error;
  return new ImageError(code, message, {
    cause: error,
    findHolders: () => error.holders,
    ...(errno !== undefined && { errno }),
    ...(hint !== undefined && { hint }),
  });
}

/**
 * What the machine said, which knows file and offset; others may have told it in their own words.
 *
 * @internal
 */
export function machineWords(error: Error): string {
  let found = error;
  while (found.cause instanceof ImageError) found = found.cause;
  return onOneLine(found.message);
}

/**
 * Text out of an image as a part of a hint, whose lines are ours.
 *
 * @internal
 */
export function onOneLine(text: string): string {
  return text.replaceAll('\n', '\\n').replaceAll('\r', '\\r');
}

const PASSING = new Set<string | undefined>(['EIO', 'EINTR', 'ENOMEM', 'EMFILE', 'ENFILE']);

/**
 * True where it says nothing of the file, nor of who may use it: another time it may go well.
 *
 * @internal
 */
export function isMachineFault(error: unknown): boolean {
  return error instanceof ImageError && error.code !== 'corrupt' && PASSING.has(error.errno);
}

const OF_MACHINE: ReadonlySet<ImageErrorCode> = new Set(['io', 'no-space']);

/**
 * Where the machine failed: the same failure, with what it said, what state things are in and what to
 * do as its hint. What refuses has its own advice, and comes back as it is.
 *
 * @internal
 */
export function withState(error: unknown, state: string): unknown {
  if (!(error instanceof ImageError) || !OF_MACHINE.has(error.code)) return error;
  const { code, message, errno, hint } = error;
  if (hint?.includes(state)) return error;
  const said = machineWords(error);
  const detail = [message, hint ?? ''].some((text) => text.includes(said)) ? [] : [`${said}.`];
  const which = hint === undefined ? [] : [hint];
  return new ImageError(code, message, {
    cause: error,
    hint: [...which, ...detail, state].join(' '),
    ...(errno !== undefined && { errno }),
  });
}

/**
 * The state of things before the first write.
 *
 * @internal
 */
export const UNTOUCHED =
  'Nothing was changed; once the cause is gone, the same command may be run again.';

/**
 * A broken invariant of ours, never the fault of an image: stops before anything is written.
 *
 * @internal
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal error: ${message}`);
}

/** The words of strerror(3) for the errors that reach a user of disk images. */
const STRERROR: Readonly<Record<string, string>> = {
  EACCES: 'Permission denied',
  EADDRINUSE: 'Address already in use',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EAGAIN: 'Resource temporarily unavailable',
  EBADF: 'Bad file descriptor',
  EBUSY: 'Device or resource busy',
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EDQUOT: 'Disk quota exceeded',
  EEXIST: 'File exists',
  EFBIG: 'File too large',
  EHOSTUNREACH: 'No route to host',
  EINTR: 'Interrupted system call',
  EINVAL: 'Invalid argument',
  EIO: 'Input/output error',
  EISDIR: 'Is a directory',
  ELOOP: 'Too many levels of symbolic links',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ENETUNREACH: 'Network is unreachable',
  ENFILE: 'Too many open files in system',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENOTDIR: 'Not a directory',
  ENOTSOCK: 'Socket operation on non-socket',
  ENOTSUP: 'Operation not supported',
  ENXIO: 'No such device or address',
  EOPNOTSUPP: 'Operation not supported',
  EOVERFLOW: 'Value too large for defined data type',
  EPERM: 'Operation not permitted',
  EPIPE: 'Broken pipe',
  EROFS: 'Read-only file system',
  ESHUTDOWN: 'Cannot send after transport endpoint shutdown',
  ETIMEDOUT: 'Connection timed out',
  ETXTBSY: 'Text file busy',
};

/**
 * What strerror(3) says for a symbolic errno; the name itself where it is not a known one.
 *
 * @internal
 */
export function strerror(errno: string): string {
  return STRERROR[errno] ?? errno;
}

/**
 * The symbolic errno of a Node.js system error, or undefined.
 *
 * @internal
 */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof ImageError) return error.errno;
  if (typeof error !== 'object' || error === null) return undefined;
  const code: unknown = (error as { code?: unknown }).code;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}
