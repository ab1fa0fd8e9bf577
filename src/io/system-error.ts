// System errors -> ImageError.

import { errnoOf, ImageError, type ImageErrorCode, strerror } from '../errors.ts';

/** An error as Node.js makes them for system calls. */
export function errnoException(call: string, code: string): Error {
  return Object.assign(new Error(`${call}: ${strerror(code)}`), { code, syscall: call });
}

function codeFor(errno: string | undefined, opening: boolean): ImageErrorCode {
  if (errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EFBIG') return 'no-space';
  if (opening && errno === 'ENOENT') return 'not-found';
  if (opening && (errno === 'EROFS' || errno === 'EACCES' || errno === 'EPERM')) return 'read-only';
  return 'io';
}

/** What failed, as `Could not open 'FILE': No such file or directory`. */
export function openError(what: string, filename: string, cause: unknown): ImageError {
  const errno = errnoOf(cause);
  const reason = errno === undefined ? String(cause) : strerror(errno);
  return new ImageError(codeFor(errno, true), `${what} '${filename}': ${reason}`, {
    cause,
    ...(errno !== undefined && { errno }),
  });
}

/** What failed, in which file, where. */
export function ioError(
  doing: string,
  filename: string,
  offset: number | undefined,
  cause: unknown,
): ImageError {
  if (cause instanceof ImageError) return cause;
  const errno = errnoOf(cause);
  const reason = errno === undefined ? String(cause) : strerror(errno);
  const where = offset === undefined ? '' : ` at offset ${offset}`;
  return new ImageError(codeFor(errno, false), `${doing} '${filename}'${where}: ${reason}`, {
    cause,
    ...(errno !== undefined && { errno }),
  });
}
