// What stopped a commit, told with the state that things are in and what to do.

import { errnoOf, ImageError, machineWords, strerror, UNTOUCHED, withState } from '../errors.ts';

const AGAIN = 'once the cause is gone, the same command';

/** Before the first write. What refuses has its own advice; the machine has none. */
export function untouched(error: unknown): unknown {
  return withState(error, UNTOUCHED);
}

/** Half-way: in the words of QEMU's jobs. */
export function jobError(error: unknown): unknown {
  const errno = errnoOf(error);
  const code = error instanceof ImageError ? error.code : 'io';
  if (!(error instanceof Error) || (errno === undefined && !(error instanceof ImageError))) {
    return error;
  }
  const reason = errno === undefined ? error.message : strerror(errno);
  return new ImageError(code, `Block job failed: ${reason}`, {
    cause: error,
    hint: `${machineWords(error)}. The view through the top is unchanged; ${AGAIN} completes the commit.`,
    ...(errno !== undefined && { errno }),
  });
}

/** Base has it all by now: an error leaves a top that still says the same. */
export class EmptyError extends ImageError {}

export function emptyError(error: unknown, name: string): unknown {
  if (!(error instanceof ImageError) || error.errno === undefined) return error;
  const { code, errno } = error;
  const hint =
    `${machineWords(error)}. The base holds everything, the view through '${name}' is unchanged; ` +
    `${AGAIN} empties it.`;
  return new EmptyError(code, `Failed to empty ${name}: ${strerror(errno)}`, {
    cause: error,
    errno,
    hint,
  });
}

/** All is done but for files that nobody needs, or for the note of them. */
export function removalError(error: unknown, left: readonly string[]): unknown {
  if (!(error instanceof ImageError)) return error;
  const names = left.map((name) => `'${name}'`).join(', ');
  const found = machineWords(error);
  const detail = error.message.includes(found) ? '' : `${found}. `;
  const hint =
    left.length === 0
      ? `The commit itself is complete; ${AGAIN} only clears a note in the header.`
      : `The commit itself is complete. Nothing needs these files any more: ${names}. Remove them, or run the same command again.`;
  return withHint(error, error.message, detail + hint);
}

function withHint(error: ImageError, message: string, hint: string): ImageError {
  const { code, errno } = error;
  return new ImageError(code, message, {
    cause: error,
    hint,
    ...(errno !== undefined && { errno }),
  });
}
