// Clients that are mad: random bytes at a random point of a conversation, perhaps cut off. They read
// nothing of what they are told.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { IHAVEOPT } from '../../src/nbd/spec.ts';
import type { Random } from './power-cut.ts';

const noiseOf = (random: Random, most: number) =>
  Buffer.from(Uint8Array.from({ length: random(most) }, () => random(256)));

/** Resolves when the server has let go of it. */
export async function raveNbd(path: string, random: Random): Promise<void> {
  const pieces: Buffer[] = [noiseOf(random, 5000)];
  const point = random(4);
  if (point >= 1) pieces.unshift(Buffer.from([0, 0, 0, 3]));
  // An export is chosen: what follows are requests.
  if (point >= 2) pieces.splice(1, 0, CHOOSE, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0]));
  if (point === 3) pieces.splice(-1, 0, request(random));
  await rave(path, pieces, random);
}

const CHOOSE = Buffer.alloc(8);
CHOOSE.writeBigUInt64BE(IHAVEOPT);

/** Right but for what it asks, behind the part of the others. */
function request(random: Random): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32BE(0x25609513, 0);
  bytes.writeUInt16BE(random(64), 4);
  bytes.writeUInt16BE(random(12), 6);
  bytes.writeBigUInt64BE(BigInt(2 ** 40 + random(1000)), 16);
  bytes.writeUInt32BE(random(2 ** 26), 24);
  return bytes;
}

/** The same at a monitor: bytes of all kinds, and pieces of JSON that don't fit. */
export async function raveQmp(path: string, random: Random): Promise<void> {
  const words = [
    '{',
    '}',
    '[',
    ']',
    '"',
    ':',
    ',',
    '"execute"',
    '"id"',
    '1e400',
    'true',
    '\\u0000',
  ];
  const text = Array.from({ length: random(200) }, () => words[random(words.length)]).join('');
  const known = ['qmp_capabilities', 'query-jobs', 'block-commit', 'block-export-del'];
  const command = `{"execute": "${known[random(known.length)]}", "arguments": ${text}}\n`;
  const all = [noiseOf(random, 5000), Buffer.from(text), Buffer.from(command)];
  await rave(path, [...all.slice(random(3)), Buffer.from('\n')], random);
}

async function rave(path: string, pieces: readonly Buffer[], random: Random): Promise<void> {
  const socket: Socket = connect({ path });
  socket.on('error', () => undefined);
  const closed = once(socket, 'close').catch(() => undefined);
  socket.resume();
  for (const piece of pieces) {
    socket.write(piece);
    if (random(3) === 0) await new Promise((resolve) => setTimeout(resolve, random(5)));
  }
  if (random(2) === 0) socket.end();
  else {
    await new Promise((resolve) => setTimeout(resolve, random(5)));
    socket.destroy();
  }
  // One that is open to more is not closed from the other side.
  const timer = setTimeout(() => socket.destroy(), 2000);
  await closed;
  clearTimeout(timer);
}
