// The name and the host under which the engine finds a source: bytes and storages get a name in a
// host where only they are found.

import { ImageError } from '../errors.ts';
import { nodeCodecs } from '../io/codecs.ts';
import type { Host } from '../io/host.ts';
import { MemoryStorage } from '../io/memory.ts';
import { MemoryHost } from '../io/memory-host.ts';
import { nodeHost } from '../io/node-host.ts';
import type { Storage } from '../io/storage.ts';
import type { ImageSource } from './source.ts';

interface Located {
  readonly filename: string;
  readonly host: Host;
}

export function located(source: ImageSource, host: Host | undefined): Located {
  if (typeof source === 'string') return { filename: source, host: host ?? nodeHost };
  const storage = source instanceof Uint8Array ? new MemoryStorage(source) : source;
  const rest = host ?? new MemoryHost({ codecs: nodeCodecs });
  // No protocol, wherever the bytes come from: backing files are looked up beside this name.
  const filename = storage.filename.replace(/^[^:/]*:/, (protocol) => `./${protocol}`);
  return { filename, host: withStorage(rest, filename, storage) };
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
