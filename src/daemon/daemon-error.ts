// What a command of the daemon was refused with: an error class of QMP, and words.

import { ImageError, strerror } from '../errors.ts';

/** The error classes that QMP knows. */
export type ErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'DeviceInUse'
  | 'NotSupported'
  | 'InvalidParameter';

export class DaemonError extends Error {
  override readonly name = 'DaemonError';
  readonly errorClass: ErrorClass;

  constructor(message: string, errorClass: ErrorClass = 'GenericError', cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.errorClass = errorClass;
  }
}

/** In a word of the machine's, where it has one. */
export function wordsOf(error: unknown): string {
  if (error instanceof ImageError) {
    return error.errno === undefined ? error.message : strerror(error.errno);
  }
  return error instanceof Error ? error.message : String(error);
}

/** The refusal that a failure of the engine is for a client; what is neither is thrown on. */
export function asDaemonError(error: unknown): DaemonError {
  if (error instanceof DaemonError) return error;
  if (error instanceof ImageError) return new DaemonError(error.message, 'GenericError', error);
  throw error;
}
