// A file with the number of this process, there for as long as it runs.

import { unlinkSync, writeFileSync } from 'node:fs';
import { errnoOf, ImageError, strerror } from '../errors.ts';

export class PidFile {
  readonly #path: string | undefined;

  private constructor(path: string | undefined) {
    this.#path = path;
  }

  /** None without a path. Throws `io`. */
  static write(path: string | undefined): PidFile {
    if (path === undefined) return new PidFile(undefined);
    try {
      writeFileSync(path, `${process.pid}\n`, { mode: 0o600 });
    } catch (error) {
      const errno = errnoOf(error) ?? 'EIO';
      throw new ImageError('io', `Could not create '${path}': ${strerror(errno)}`, {
        cause: error,
      });
    }
    return new PidFile(path);
  }

  remove(): void {
    if (this.#path === undefined) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // Somebody else has tidied up.
    }
  }
}
