// The options of block nodes, as blockdev-add and --blockdev have them.

import {
  alternate,
  any,
  bool,
  type Fields,
  integer,
  lazy,
  list,
  object,
  oneOf,
  optional,
  type Schema,
  text,
  union,
  unsigned,
} from '../qmp/schema.ts';
import { socketAddress } from './socket-address.ts';

type NodeOptions = { readonly [key: string]: unknown };

const node: Schema<NodeOptions> = lazy(() => blockdevOptions);
const reference = alternate('BlockdevRef', { text, object: node });
const referenceOrNull = alternate('BlockdevRefOrNull', { text, object: node, null: true });
const uint64 = unsigned(64);
const onOff = oneOf('auto', 'on', 'off');

const FILE: Fields = {
  filename: text,
  'pr-manager': optional(text),
  locking: optional(onOff),
  aio: optional(oneOf('threads', 'native', 'io_uring')),
  'aio-max-batch': optional(integer),
  'drop-cache': optional(bool),
  'x-check-cache-dropped': optional(bool),
};

const QCOW2: Fields = {
  file: reference,
  backing: optional(referenceOrNull),
  'lazy-refcounts': optional(bool),
  'pass-discard-request': optional(bool),
  'pass-discard-snapshot': optional(bool),
  'pass-discard-other': optional(bool),
  'overlap-check': optional(alternate('Qcow2OverlapChecks', { text, object: any })),
  'cache-size': optional(integer),
  'l2-cache-size': optional(integer),
  'l2-cache-entry-size': optional(integer),
  'refcount-cache-size': optional(integer),
  'cache-clean-interval': optional(integer),
  encrypt: optional(object({ format: oneOf('aes', 'luks'), 'key-secret': optional(text) })),
  'data-file': optional(reference),
};

const inject = object({
  event: text,
  state: optional(integer),
  iotype: optional(oneOf('read', 'write', 'write-zeroes', 'discard', 'flush', 'block-status')),
  errno: optional(integer),
  sector: optional(integer),
  once: optional(bool),
  immediately: optional(bool),
});
const setState = object({ event: text, state: optional(integer), new_state: integer });

const DEBUG: Fields = {
  image: reference,
  config: optional(text),
  align: optional(integer),
  'max-transfer': optional(integer),
  'opt-write-zero': optional(integer),
  'max-write-zero': optional(integer),
  'opt-discard': optional(integer),
  'max-discard': optional(integer),
  'inject-error': optional(list(inject)),
  'set-state': optional(list(setState)),
};

const BRANCHES = {
  file: FILE,
  host_device: FILE,
  qcow2: QCOW2,
  raw: { file: reference, offset: optional(integer), size: optional(integer) },
  'null-co': {
    size: optional(integer),
    'latency-ns': optional(uint64),
    'read-zeroes': optional(bool),
  },
  blkdebug: DEBUG,
  nbd: {
    server: socketAddress,
    export: optional(text),
    'tls-creds': optional(text),
    'tls-hostname': optional(text),
    'reconnect-delay': optional(unsigned(32)),
    'open-timeout': optional(unsigned(32)),
  },
} as const satisfies Readonly<Record<string, Fields>>;

const DRIVERS = Object.keys(BRANCHES) as readonly (keyof typeof BRANCHES)[];

export const blockdevOptions: Schema<NodeOptions> = union(
  {
    driver: oneOf(...DRIVERS),
    'node-name': optional(text),
    discard: optional(oneOf('ignore', 'unmap')),
    cache: optional(object({ direct: optional(bool), 'no-flush': optional(bool) })),
    'read-only': optional(bool),
    'auto-read-only': optional(bool),
    'force-share': optional(bool),
    'detect-zeroes': optional(oneOf('off', 'on', 'unmap')),
  },
  { by: 'driver', of: BRANCHES },
);
