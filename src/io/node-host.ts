// The Host on Node.js: files by name, names, space, time.

import * as fs from 'node:fs';
import * as path from 'node:path';
import { KIB } from '../units.ts';
import { nodeCodecs } from './codecs.ts';
import { FileStorage } from './file.ts';
import type { FileMachine } from './file-machine.ts';
import { pathOf } from './file-open.ts';
import type { FileIdentity, Host } from './host.ts';
import { decodeName } from './name-bytes.ts';
import { openError } from './system-error.ts';

export const nodeHost: Host = createNodeHost();

/** For commands that read headers and tables, one after the other, and do nothing else meanwhile. */
export const patientHost: Host = createNodeHost({ waits: 64 * KIB });

/** `machine`: how files are reached, for tests and for programs with their own place for warnings. */
export function createNodeHost(machine: FileMachine = {}): Host {
  return {
    codecs: nodeCodecs,
    now: () => performance.now(),

    async sleep(milliseconds, signal) {
      // Seldom needed: most commands end without.
      const { setTimeout: sleepFor } = await import('node:timers/promises');
      try {
        await sleepFor(milliseconds, undefined, signal && { signal });
      } catch (error) {
        // node:timers wraps the reason; callers get it as it is.
        signal?.throwIfAborted();
        throw error;
      }
    },

    openStorage: (filename, options) => FileStorage.open(filename, { ...machine, ...options }),
    createStorage: (filename, options) => FileStorage.create(filename, { ...machine, ...options }),

    async identify(filename) {
      let stat: fs.BigIntStats | undefined;
      try {
        stat = fs.statSync(pathOf(filename), { throwIfNoEntry: false, bigint: true });
      } catch {
        // Not reachable: opening it will say why.
        return undefined;
      }
      return stat && { id: identityOf(stat), kind: kindOf(stat) };
    },

    async realPath(filename) {
      try {
        // The native one: `..` behind a link means the link's target.
        return decodeName(fs.realpathSync.native(pathOf(filename), 'buffer'));
      } catch {
        return path.resolve(filename);
      }
    },

    async listFiles(directory) {
      try {
        const options = { withFileTypes: true, encoding: 'buffer' } as const;
        const entries = fs.readdirSync(pathOf(directory), options);
        const files = entries.filter((entry) => entry.isFile() || entry.isSymbolicLink());
        return files.map(({ name }) => decodeName(name));
      } catch (error) {
        throw openError('Could not read the directory', directory, error, 'open-for-reading');
      }
    },

    async freeSpace(filename) {
      try {
        if (fs.statSync(pathOf(filename)).isBlockDevice()) return undefined;
        const { bavail, bfree, bsize } = fs.statfsSync(pathOf(filename));
        return (process.getuid?.() === 0 ? bfree : bavail) * bsize;
      } catch {
        return undefined;
      }
    },

    async fileSystem(filename) {
      try {
        const stat = fs.statSync(filename);
        return stat.isFile() ? String(stat.dev) : undefined;
      } catch {
        return undefined;
      }
    },

    async remove(filename) {
      try {
        fs.unlinkSync(pathOf(filename));
        const fd = fs.openSync(pathOf(path.dirname(filename)), fs.constants.O_RDONLY);
        try {
          fs.fsyncSync(fd);
        } finally {
          fs.closeSync(fd);
        }
      } catch (error) {
        throw openError('Could not remove', filename, error, 'open-for-writing');
      }
    },
  };
}

/** A device is the same under all of its names, a file by its inode. */
function identityOf(stat: fs.BigIntStats): string {
  return stat.isBlockDevice() ? `device ${stat.rdev}` : `${stat.dev}:${stat.ino}`;
}

function kindOf(stat: fs.BigIntStats): FileIdentity['kind'] {
  if (stat.isFile()) return 'file';
  if (stat.isBlockDevice()) return 'block-device';
  if (stat.isCharacterDevice()) return 'character-device';
  return stat.isDirectory() ? 'directory' : 'other';
}
