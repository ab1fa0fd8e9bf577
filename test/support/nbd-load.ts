// Many clients of one server at once, each writing and reading a part of the disk of its own, and
// expecting what it wrote.

import { connect } from 'node:net';
import { NbdClient } from '../../src/nbd/client.ts';
import { shakeHands } from '../../src/nbd/client-handshake.ts';
import {
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from '../../src/nbd/spec.ts';
import { type Random, randomFrom } from './power-cut.ts';

export interface Load {
  readonly connections: number;
  /** Of each connection. */
  readonly requests: number;
  /** Of each connection, under way at once. */
  readonly depth: number;
  readonly seed: number;
}

/** The blocks of each connection, in bytes: requests are about one of them. */
const SIZES = [4096, 512, 4096, 16_384, 1536, 4096, 65_536, 1024, 4096, 512, 8192, 4096].concat([
  200_704, 4096, 512, 4096,
]);
const BLOCKS = SIZES.length;
const startOf = (block: number) => SIZES.slice(0, block).reduce((sum, size) => sum + size, 0);
const STARTS = SIZES.map((_, block) => startOf(block));
const PART = startOf(BLOCKS);

/** The disk that the load needs, in bytes. */
export const loadSize = ({ connections }: Load): number => connections * PART;

export async function connectClient(socket: string): Promise<NbdClient> {
  return new NbdClient(await shakeHands(connect({ path: socket }), { exportName: '' }));
}

export async function runLoad(socket: string, load: Load): Promise<void> {
  const all = Array.from({ length: load.connections }, (_, index) => runOne(socket, index, load));
  await Promise.all(all);
}

async function runOne(socket: string, index: number, { requests, depth, seed }: Load) {
  const client = await connectClient(socket);
  const random = randomFrom(seed * 1000 + index);
  const start = index * PART;
  // What each block holds: one value in all of its bytes.
  const values = new Uint8Array(BLOCKS);
  let left = requests;
  const worker = async (blocks: readonly number[]) => {
    while (left-- > 0) {
      const block = blocks[random(blocks.length)] ?? 0;
      await one(client, random, start, block, values);
    }
  };
  // Each has blocks of its own: what is under way at once does not overlap.
  const share = (part: number) =>
    Array.from({ length: BLOCKS }, (_, block) => block).filter((block) => block % depth === part);
  try {
    const whole = { flags: 0, offset: start, length: PART };
    await client.request({ ...whole, type: NBD_CMD_WRITE_ZEROES });
    await Promise.all(Array.from({ length: depth }, (_, part) => worker(share(part))));
  } finally {
    await client.close();
  }
}

async function one(
  client: NbdClient,
  random: Random,
  start: number,
  block: number,
  values: Uint8Array,
): Promise<void> {
  const length = SIZES[block] ?? 0;
  const offset = start + (STARTS[block] ?? 0);
  const request = { flags: 0, offset, length };
  const kind = random(20);
  if (kind === 0) await client.request({ ...request, type: NBD_CMD_FLUSH, offset: 0, length: 0 });
  else if (kind === 1) {
    values[block] = 0;
    await client.request({ ...request, type: NBD_CMD_WRITE_ZEROES });
  } else if (kind < 10) {
    const value = 1 + random(255);
    values[block] = value;
    const payload = new Uint8Array(length).fill(value);
    await client.request({ ...request, type: NBD_CMD_WRITE, payload });
  } else {
    const target = new Uint8Array(length).fill(0xee);
    await client.request({ ...request, type: NBD_CMD_READ, target });
    const wrong = target.findIndex((byte) => byte !== values[block]);
    if (wrong >= 0) {
      throw new Error(`offset ${offset + wrong}: ${target[wrong]} instead of ${values[block]}`);
    }
  }
}
