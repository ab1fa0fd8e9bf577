// The name or description, and the host, by which the engine finds a source: bytes and storages get a
// name in a host where only they are found.

import type { Description } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import { nodeCodecs } from '../io/codecs.ts';
import type { Host } from '../io/host.ts';
import { MemoryStorage } from '../io/memory.ts';
import { MemoryHost } from '../io/memory-host.ts';
import type { Storage } from '../io/storage.ts';
import type { ImageDescription } from './description.ts';
import { nodeHost } from './node-host.ts';
import type { ImageSource } from './source.ts';

interface Located {
  readonly target: string | Description;
  readonly host: Host;
}

export function located(source: ImageSource, host: Host | undefined): Located {
  if (typeof source === 'string') return { target: source, host: host ?? nodeHost };
  if (!(source instanceof Uint8Array) && !isStorage(source)) {
    return { target: asJson(source), host: host ?? nodeHost };
  }
  const storage = source instanceof Uint8Array ? new MemoryStorage(source) : source;
  const rest = host ?? new MemoryHost({ codecs: nodeCodecs });
  const filename = asPath(storage.filename);
  return { target: filename, host: withStorage(rest, filename, storage) };
}

/** No protocol, wherever the bytes come from: backing files are looked up beside this name. */
function asPath(name: string): string {
  return /^[^:/]*:/.test(name) ? `./${name}` : name;
}

/** How names of a chain are told, to the host and to users: as its storage has them. */
export function namesFor(source: ImageSource): (name: string) => string {
  const isPath = !isStorage(source) || asPath(source.filename) === source.filename;
  return isPath ? (name) => name : (name) => name.replace(/^\.\/(?=[^:/]*:)/, '');
}

/** A copy of what JSON can say, as the parser takes it: members that are undefined are left out. */
export function asJson(description: ImageDescription): Description {
  if (typeof description !== 'object' || description === null || Array.isArray(description)) {
    throw new ImageError('invalid', `Not a description of an image: ${String(description)}`);
  }
  return JSON.parse(JSON.stringify(description)) as Description;
}

/** `host`, with one file more. */
function withStorage(host: Host, filename: string, storage: Storage): Host {
  const isIt = (name: string) => name === filename;
  const told = namesFor(storage);
  return {
    codecs: host.codecs,
    now: () => host.now(),
    sleep: (milliseconds, signal) => host.sleep(milliseconds, signal),
    async openStorage(name, options) {
      return isIt(name) ? storage : host.openStorage(told(name), options);
    },
    createStorage: (name) => host.createStorage(told(name)),
    async identify(name) {
      return isIt(name) ? { id: `storage ${filename}`, kind: 'file' } : host.identify(told(name));
    },
    async realPath(name) {
      return isIt(name) ? name : host.realPath(told(name));
    },
    listFiles: (directory) => host.listFiles(told(directory)),
    freeSpace: (name) => host.freeSpace(told(name)),
    remove: (name) => host.remove(told(name)),
    checkNamed: async (name, resolved) => {
      await host.checkNamed?.(name, told(resolved));
    },
  };
}

/** Storages have a way to be read; descriptions are data alone. */
export function isStorage(source: ImageSource): source is Storage {
  return typeof source === 'object' && source !== null && 'read' in source;
}
