// What a client is told when a command fails: a class that programs look at, and words.

import { ImageError } from '../errors.ts';

export const ERROR_CLASSES = [
  'GenericError',
  'CommandNotFound',
  'DeviceNotActive',
  'DeviceNotFound',
  'KVMMissingCap',
  // Of the commands that came before block-commit.
  'DeviceInUse',
  'NotSupported',
  'InvalidParameter',
] as const;
export type ErrorClass = (typeof ERROR_CLASSES)[number];

export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly errorClass: ErrorClass;

  constructor(message: string, errorClass: ErrorClass = 'GenericError') {
    super(message);
    this.errorClass = errorClass;
  }
}

export interface ErrorReply {
  readonly class: ErrorClass;
  readonly desc: string;
}

/** Refusals and failures; what is neither is a mistake of ours and is thrown on. */
export function errorReply(error: unknown): ErrorReply {
  if (error instanceof Error && isClass((error as Partial<QmpError>).errorClass)) {
    return { class: (error as QmpError).errorClass, desc: error.message };
  }
  if (error instanceof ImageError) return { class: 'GenericError', desc: error.message };
  throw error;
}

function isClass(value: unknown): value is ErrorClass {
  return ERROR_CLASSES.includes(value as ErrorClass);
}
