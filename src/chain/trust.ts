// What the header of an image may make us open. An image that came from elsewhere names files of this
// machine, and says how they are to be opened: that is followed as far as it is trusted.

import { ImageError, onOneLine } from '../errors.ts';
import type { Host, OpenStorageOptions } from '../io/host.ts';
import { hostFileOf, protocolOf } from './filename.ts';
import { isNbdName } from './nbd-options.ts';

/** How far images are trusted. */
export interface Trust {
  /**
   * Directories: no file outside of them, and of what is below them, is opened; real paths count.
   * Default: any file may be.
   */
  readonly directories?: readonly string[];
  /** Follows names with protocols and descriptions (`json:{...}`) in headers. Default false. */
  readonly protocols?: boolean;
}

/**
 * A host that opens only what is trusted: the path is looked at before, so that nothing else is
 * touched, and the file that was opened is looked at again, where the machine tells where it lies.
 */
export function trustingHost(host: Host, { directories, protocols = false }: Trust): Host {
  let real: Promise<readonly string[]> | undefined;
  const realDirectories = (): Promise<readonly string[]> => {
    real ??= Promise.all((directories ?? []).map((name) => host.realPath(name)));
    return real;
  };
  const checkPath = (filename: string, path: string, trusted: readonly string[]): void => {
    if (directories === undefined || trusted.some((each) => isBelow(path, each))) return;
    throw new ImageError('invalid', `'${filename}' is outside of the trusted directories`, {
      hint: onOneLine(`It is '${path}'; trusted: ${directories.map((d) => `'${d}'`).join(', ')}.`),
    });
  };
  /** Looks at the path, and gives what looks at the file that was opened: links change. */
  const check = async (filename: string): Promise<Pick<OpenStorageOptions, 'checkOpened'>> => {
    if (directories === undefined) return {};
    const trusted = await realDirectories();
    checkPath(filename, await host.realPath(filename), trusted);
    return { checkOpened: (path) => checkPath(filename, path, trusted) };
  };
  return {
    codecs: host.codecs,
    now: () => host.now(),
    sleep: (milliseconds, signal) => host.sleep(milliseconds, signal),
    async openStorage(filename, options) {
      return await host.openStorage(filename, { ...options, ...(await check(filename)) });
    },
    async createStorage(filename) {
      return await host.createStorage(filename, await check(filename));
    },
    identify: (filename) => host.identify(filename),
    realPath: (filename) => host.realPath(filename),
    listFiles: (directory) => host.listFiles(directory),
    freeSpace: (filename) => host.freeSpace(filename),
    // Named by the user, or allowed by name below.
    ...(host.openNbd !== undefined && { openNbd: host.openNbd.bind(host) }),
    fileSystem: async (filename) => await host.fileSystem?.(filename),
    async remove(filename) {
      await check(filename);
      await host.remove(filename);
    },
    async checkNamed(name, filename) {
      await host.checkNamed?.(name, filename);
      if (!protocols) checkPlain(name);
      if (!isPlain(filename)) return;
      const kind = (await host.identify(hostFileOf(filename)))?.kind;
      if (kind !== 'character-device' && kind !== 'other') return;
      throw new ImageError('invalid', `'${name}' is neither a regular file nor a block device`);
    },
  };
}

function isBelow(path: string, directory: string): boolean {
  const prefix = directory.endsWith('/') ? directory : `${directory}/`;
  return path.startsWith(prefix);
}

/** A file's name, as it is or after `file:`. */
export function isPlain(name: string): boolean {
  const protocol = protocolOf(name);
  return protocol === null || protocol === 'file';
}

/** Protocols of drivers that we don't have are refused by who opens them. */
function checkPlain(name: string): void {
  if (protocolOf(name) !== 'json' && !isNbdName(name)) return;
  throw new ImageError('invalid', `An image names '${name}', which is no plain file name`, {
    hint: 'If you trust the image, allow it (--allow-protocols; in the library, trustingHost).',
  });
}
