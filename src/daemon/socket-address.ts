// Where sockets are, as commands and options name it.

import {
  bool,
  type Fields,
  object,
  oneOf,
  optional,
  text,
  union,
  unsigned,
} from '../qmp/schema.ts';
import { DaemonError } from './daemon-error.ts';
import type { SocketAddress } from './listening.ts';

const INET: Fields = {
  host: text,
  port: text,
  numeric: optional(bool),
  to: optional(unsigned(16)),
  ipv4: optional(bool),
  ipv6: optional(bool),
  'keep-alive': optional(bool),
  mptcp: optional(bool),
};
const UNIX: Fields = { path: text, abstract: optional(bool), tight: optional(bool) };

const type = oneOf('inet', 'unix');

/** All members side by side. */
export const socketAddress = union({ type }, { by: 'type', of: { inet: INET, unix: UNIX } });

/** All but the type one level deeper. */
export const legacyAddress = union(
  { type },
  { by: 'type', of: { inet: { data: object(INET) }, unix: { data: object(UNIX) } } },
);

type Parts = { readonly [key: string]: unknown };

export function addressOf(given: Parts): SocketAddress {
  const parts = (given['data'] ?? given) as Parts;
  const type = given['type'];
  if (type === 'unix') return { type, path: String(parts['path']) };
  const [host, port] = [String(parts['host']), String(parts['port'])];
  if (!/^\d+$/.test(port) || Number(port) > 65_535) {
    throw new DaemonError(
      `address resolution failed for ${host}:${port}: Servname not supported for ai_socktype`,
    );
  }
  return { type: 'inet', host, port: Number(port) };
}
