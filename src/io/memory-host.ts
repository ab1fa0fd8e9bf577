// A Host without a machine: files by name in memory, which survive their closing. For tests and
// browsers. Names are paths with slashes; the working directory is the root.

import { ImageError } from '../errors.ts';
import type { Codecs, FileIdentity, Host, OpenStorageOptions } from './host.ts';
import { MemoryFile, MemoryStorage } from './memory.ts';
import type { Storage } from './storage.ts';

/** What a {@link MemoryHost} has besides files. */
export interface MemoryHostOptions {
  /** Default: compressed clusters are refused as not supported. */
  readonly codecs?: Codecs;
}

/**
 * Files by name in memory, which survive their closing. Names are paths with slashes; the working
 * directory is the root.
 */
export class MemoryHost implements Host {
  readonly codecs: Codecs;
  readonly #files = new Map<string, MemoryFile>();

  constructor(options: MemoryHostOptions = {}) {
    this.codecs = options.codecs ?? NO_CODECS;
  }

  /** Puts a copy of `content` under a name; a file of that name is replaced. */
  addFile(filename: string, content: Uint8Array): void {
    this.#files.set(resolvePath(filename), new MemoryFile(content));
  }

  /** A copy of a file's content; undefined where there is no such file. */
  fileBytes(filename: string): Uint8Array | undefined {
    const file = this.#files.get(resolvePath(filename));
    return file?.view(0, file.size).slice();
  }

  now(): number {
    return performance.now();
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const aborted = (): void => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      }, milliseconds);
      signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  async openStorage(filename: string, options: OpenStorageOptions): Promise<Storage> {
    const file = this.#files.get(resolvePath(filename));
    if (file === undefined) throw notFound('Could not open', filename);
    return new MemoryStorage(file, { filename, writable: options.writable });
  }

  async createStorage(filename: string): Promise<Storage> {
    const path = resolvePath(filename);
    const file = this.#files.get(path) ?? new MemoryFile();
    file.resize(0);
    this.#files.set(path, file);
    return new MemoryStorage(file, { filename });
  }

  async identify(filename: string): Promise<FileIdentity | undefined> {
    const id = resolvePath(filename);
    if (this.#files.has(id)) return { id, kind: 'file' };
    return (await this.#isDirectory(id)) ? { id, kind: 'directory' } : undefined;
  }

  async realPath(filename: string): Promise<string> {
    return resolvePath(filename);
  }

  async listFiles(directory: string): Promise<readonly string[]> {
    const path = resolvePath(directory);
    if (!(await this.#isDirectory(path))) {
      throw notFound('Could not read the directory', directory);
    }
    const prefix = prefixOf(path);
    return [...this.#files.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length))
      .filter((name) => !name.includes('/'));
  }

  async freeSpace(): Promise<undefined> {
    return undefined;
  }

  async remove(filename: string): Promise<void> {
    if (!this.#files.delete(resolvePath(filename))) throw notFound('Could not remove', filename);
  }

  /** Directories are what the names of files imply. */
  async #isDirectory(path: string): Promise<boolean> {
    const prefix = prefixOf(path);
    return path === '/' || [...this.#files.keys()].some((name) => name.startsWith(prefix));
  }
}

const NO_CODECS: Codecs = {
  inflateRaw: refuse,
  decompressZstd: refuse,
};

async function refuse(): Promise<never> {
  throw new ImageError('unsupported', 'compressed clusters need codecs');
}

function notFound(doing: string, filename: string): ImageError {
  return new ImageError('not-found', `${doing} '${filename}': No such file or directory`, {
    errno: 'ENOENT',
  });
}

function prefixOf(directory: string): string {
  return directory === '/' ? '/' : `${directory}/`;
}

/** Absolute, without `.`, `..` and doubled slashes. */
function resolvePath(filename: string): string {
  const parts: string[] = [];
  for (const part of filename.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}
