// System errors -> ImageError.

import { errnoOf, ImageError, type ImageErrorCode, strerror } from '../errors.ts';

/** An error as Node.js makes them for system calls. */
export function errnoException(call: string, code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${call}: ${strerror(code)}`), { code, syscall: call });
}

/** What was being done to a file: a refusal means something else for each. */
export type Access = 'open-for-reading' | 'open-for-writing' | 'use';

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
const NO_WRITING = new Set(['EROFS', 'EACCES', 'EPERM']);

function codeFor(errno: string | undefined, access: Access): ImageErrorCode {
  if (errno === undefined) return 'io';
  if (NO_SPACE.has(errno)) return 'no-space';
  if (errno === 'ENOENT' && access !== 'use') return 'not-found';
  return NO_WRITING.has(errno) && access === 'open-for-writing' ? 'read-only' : 'io';
}

function systemError(what: string, cause: unknown, access: Access): ImageError {
  if (cause instanceof ImageError) return cause;
  const errno = errnoOf(cause);
  const reason = errno === undefined ? String(cause) : strerror(errno);
  const details = { cause, ...(errno !== undefined && { errno }) };
  return new ImageError(codeFor(errno, access), `${what}: ${reason}`, details);
}

/** What failed, as `Could not open 'FILE': No such file or directory`. */
export function openError(
  what: string,
  filename: string,
  cause: unknown,
  access: Access,
): ImageError {
  return systemError(`${what} '${filename}'`, cause, access);
}

/** What failed, in which file, where. An ImageError comes back as it is. */
export function ioError(
  doing: string,
  filename: string,
  offset: number | undefined,
  cause: unknown,
): ImageError {
  const where = offset === undefined ? '' : ` at offset ${offset}`;
  return systemError(`${doing} '${filename}'${where}`, cause, 'use');
}
