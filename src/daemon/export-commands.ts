// The commands of QMP for what is served over NBD.

import { acting, command } from '../qmp/command.ts';
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
import type { Exports, ServerSettings } from './exports.ts';
import { addressOf, legacyAddress, socketAddress } from './socket-address.ts';

const SERVER = {
  'tls-creds': optional(text),
  'tls-authz': optional(text),
  'max-connections': optional(unsigned(32)),
};

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

export const serverOptions = object({ addr: socketAddress, ...SERVER });
const serverArguments = object({ addr: legacyAddress, ...SERVER });

/** What either of them means. */
export function serverSettings(given: Reader<typeof serverOptions>): ServerSettings {
  const { addr, 'tls-creds': tlsCreds, 'max-connections': maxConnections } = given;
  return {
    address: addressOf(addr),
    ...(tlsCreds !== undefined && { tlsCreds }),
    ...(maxConnections !== undefined && { maxConnections }),
  };
}

const addArguments = object({
  name: optional(text),
  description: optional(text),
  device: text,
  writable: optional(bool),
  bitmap: optional(text),
});

const mode = optional(oneOf('safe', 'hard'));

export function exportCommands(exports: Exports) {
  return {
    'query-block-exports': command(object({}), () => exports.query()),
    'nbd-server-start': acting(serverArguments, (given) =>
      exports.startServer(serverSettings(given)),
    ),
    'nbd-server-stop': acting(object({}), () => exports.stopServer()),
    'nbd-server-add': acting(addArguments, (given) => {
      const { device, name = device, description, writable, bitmap } = given;
      return exports.addFor(device, {
        id: name,
        name,
        ...(description !== undefined && { description }),
        ...(writable !== undefined && { writable }),
        ...(bitmap !== undefined && { bitmaps: [bitmap] }),
      });
    }),
    'nbd-server-remove': acting(object({ name: text, mode }), ({ name, mode: how = 'safe' }) =>
      exports.remove(name, how),
    ),
    'block-export-add': acting(exportOptions, (given) => exports.add(exportSettings(given))),
    'block-export-del': acting(object({ id: text, mode }), ({ id, mode: how = 'safe' }) =>
      exports.remove(id, how),
    ),
  };
}
