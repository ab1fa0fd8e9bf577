// The commands of QMP for what is served over NBD.

import { command } from '../qmp/command.ts';
import {
  bool,
  type Fields,
  list,
  object,
  oneOf,
  optional,
  text,
  union,
  unsigned,
} from '../qmp/schema.ts';
import type { Exports } from './exports.ts';
import { addressOf, legacyAddress } from './socket-address.ts';

const NBD: Fields = {
  name: optional(text),
  description: optional(text),
  bitmaps: optional(list(text)),
  'allocation-depth': optional(bool),
};

export const exportOptions = union(
  {
    type: oneOf('nbd'),
    id: text,
    'fixed-iothread': optional(bool),
    iothread: optional(text),
    'node-name': text,
    writable: optional(bool),
    writethrough: optional(bool),
  },
  { by: 'type', of: { nbd: NBD } },
);

type Reader<S> = S extends { read(...given: never): infer T } ? T : never;

/** What the options mean; those that are not given are left out. */
export function exportSettings(given: Reader<typeof exportOptions>) {
  const nbd = given as {
    readonly name?: string;
    readonly description?: string;
    readonly bitmaps?: readonly string[];
    readonly 'allocation-depth'?: boolean;
  };
  return {
    id: given.id,
    nodeName: given['node-name'],
    ...(given.writable !== undefined && { writable: given.writable }),
    ...(given.writethrough !== undefined && { writethrough: given.writethrough }),
    ...(nbd.name !== undefined && { name: nbd.name }),
    ...(nbd.description !== undefined && { description: nbd.description }),
    ...(nbd.bitmaps !== undefined && { bitmaps: nbd.bitmaps }),
    ...(nbd['allocation-depth'] !== undefined && { allocationDepth: nbd['allocation-depth'] }),
  };
}

const mode = optional(oneOf('safe', 'hard'));

export function exportCommands(exports: Exports) {
  return {
    'query-block-exports': command(object({}), () => exports.query()),
    'nbd-server-start': command(
      object({
        addr: legacyAddress,
        'tls-creds': optional(text),
        'tls-authz': optional(text),
        'max-connections': optional(unsigned(32)),
      }),
      async ({ addr, 'max-connections': maxConnections }) => {
        const address = addressOf(addr);
        await exports.startServer({ address, ...(maxConnections && { maxConnections }) });
        return undefined;
      },
    ),
    'nbd-server-stop': command(object({}), async () => {
      await exports.stopServer();
      return undefined;
    }),
    'nbd-server-add': command(
      object({
        name: optional(text),
        description: optional(text),
        device: text,
        writable: optional(bool),
        bitmap: optional(text),
      }),
      async ({ device, name = device, description, writable, bitmap }) => {
        await exports.addFor(device, {
          id: name,
          name,
          ...(description !== undefined && { description }),
          ...(writable !== undefined && { writable }),
          ...(bitmap !== undefined && { bitmaps: [bitmap] }),
        });
        return undefined;
      },
    ),
    'nbd-server-remove': command(
      object({ name: text, mode }),
      async ({ name, mode: how = 'safe' }) => {
        await exports.remove(name, how);
        return undefined;
      },
    ),
    'block-export-add': command(exportOptions, async (given) => {
      await exports.add(exportSettings(given));
      return undefined;
    }),
    'block-export-del': command(object({ id: text, mode }), async ({ id, mode: how = 'safe' }) => {
      await exports.remove(id, how);
      return undefined;
    }),
  };
}
