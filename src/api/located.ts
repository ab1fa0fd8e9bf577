// The name or description, and the host, by which the engine finds a source: bytes and storages get a
// name in a host where only they are found.

import type { Description } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import { nodeCodecs } from '../io/codecs.ts';
import type { Host } from '../io/host.ts';
import { MemoryStorage } from '../io/memory.ts';
import { MemoryHost } from '../io/memory-host.ts';
import { nodeHost } from '../io/node-host.ts';
import type { Storage } from '../io/storage.ts';
import type { ImageDescription } from './description.ts';
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
  // No protocol, wherever the bytes come from: backing files are looked up beside this name.
  const filename = storage.filename.replace(/^[^:/]*:/, (protocol) => `./${protocol}`);
  return { target: filename, host: withStorage(rest, filename, storage) };
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
  return {
    codecs: host.codecs,
    now: () => host.now(),
    sleep: (milliseconds, signal) => host.sleep(milliseconds, signal),
    async openStorage(name, options) {
      if (!isIt(name)) return host.openStorage(name, options);
      if (options.writable && !storage.writable) {
        await storage.close();
        throw new ImageError('read-only', `'${filename}' is open for reading only`);
      }
      return storage;
    },
    createStorage: (name) => host.createStorage(name),
    async identify(name) {
      return isIt(name) ? { id: `storage ${filename}`, kind: 'file' } : host.identify(name);
    },
    async realPath(name) {
      return isIt(name) ? name : host.realPath(name);
    },
    listFiles: (directory) => host.listFiles(directory),
    freeSpace: (name) => host.freeSpace(name),
    remove: (name) => host.remove(name),
  };
}

/** Storages have a way to be read; descriptions are data alone. */
export function isStorage(source: ImageSource): source is Storage {
  return typeof source === 'object' && source !== null && 'read' in source;
}
