// The words in which a rebase that has begun tells what stopped it; they are QEMU's.

import { ImageError, machineWords, strerror, UNTOUCHED, withState } from '../errors.ts';

/** Which backing file. */
export type Side = 'old' | 'new';

const STATE =
  'The image shows what it did, over the old backing file or the new one; ' +
  'once the cause is gone, the same command completes the rebase.';

/** Whatever else the machine failed in: the words stay. */
export function stoppedError(error: unknown): unknown {
  const isTold =
    error instanceof ImageError && [STATE, UNTOUCHED].some((state) => error.hint?.includes(state));
  return isTold ? error : withState(error, STATE);
}

/** In other words, what was found as the hint. */
function told(error: unknown, words: (why: string) => string): unknown {
  if (!(error instanceof ImageError)) return error;
  const { code, message, errno } = error;
  const why = errno === undefined ? message : strerror(errno);
  return new ImageError(code, words(why), {
    cause: error,
    hint: `${machineWords(error)}. ${STATE}`,
    ...(errno !== undefined && { errno }),
  });
}

export function readError(error: unknown, side: Side): unknown {
  return told(error, () => `error while reading from ${side} backing file`);
}

/** The image's own map. */
export function mapError(error: unknown): unknown {
  return told(error, (why) => `error while reading image metadata: ${why}`);
}

export function writeError(error: unknown): unknown {
  return told(error, (why) => `Error while writing to COW image: ${why}`);
}

export function changeError(
  backing: string | undefined,
  why: string,
  code: ImageError['code'],
  hint: string,
  errno?: string,
): ImageError {
  const message = `Could not change the backing file to '${backing ?? '(null)'}': ${why}`;
  return new ImageError(code, message, { hint, ...(errno !== undefined && { errno }) });
}
