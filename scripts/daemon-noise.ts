// Random bytes at the sockets of a running daemon, NBD and QMP, while others use both as they should, and
// find what they wrote. Prints what came of it.
//   npm run --silent build && npx tsx scripts/daemon-noise.ts [--seconds 60] [--seed 1]

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { loadSize, runLoad } from '../test/support/nbd-load.ts';
import { raveNbd, raveQmp } from '../test/support/noise.ts';
import { randomFrom } from '../test/support/power-cut.ts';
import { makeTemp } from '../test/support/temp.ts';

const number = { type: 'string' } as const;
const { values } = parseArgs({ options: { seconds: number, seed: number } });
const seconds = Number(values.seconds ?? 60);
const random = randomFrom(Number(values.seed ?? 1));
const CLI = join(import.meta.dirname, '../dist/cli.cjs');
const { dir, cleanup } = makeTemp();
const [nbd, qmp] = [join(dir, 'nbd.sock'), join(dir, 'qmp.sock')];
const load = { connections: 8, requests: 200, depth: 4 };

/** Asks one thing after the other, and insists on the answer. */
async function askQmp(isOver: () => boolean): Promise<number> {
  const socket = connect({ path: qmp });
  const lines = createInterface(socket)[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value as string);
  const ask = async (execute: string, id: number): Promise<void> => {
    socket.write(`${JSON.stringify({ execute, id })}\n`);
    for (;;) {
      const answer = await next();
      if (answer.event !== undefined) continue;
      if (answer.id === id && answer.return !== undefined) return;
      throw new Error(`${execute}: ${JSON.stringify(answer)}`);
    }
  };
  await next();
  let asked = 0;
  for (await ask('qmp_capabilities', 0); !isOver(); asked++) await ask('query-block', asked);
  socket.destroy();
  return asked;
}

async function repeated(isOver: () => boolean, work: () => Promise<void>): Promise<number> {
  let count = 0;
  for (; !isOver(); count++) await work();
  return count;
}

async function main(): Promise<void> {
  const create = [
    'create',
    '-q',
    '-f',
    'qcow2',
    'disk.qcow2',
    String(loadSize({ ...load, seed: 0 })),
  ];
  execFileSync('qemu-img', create, { cwd: dir });
  const options = ['serve', 'disk.qcow2', '--socket', nbd, '--qmp', qmp];
  const daemon = spawn(process.execPath, [CLI, ...options], { cwd: dir });
  let told = '';
  daemon.stderr.on('data', (bytes: Buffer) => {
    told += bytes.toString();
  });
  daemon.stdout.resume();
  const ended = new Promise<string>((resolve) =>
    daemon.once('close', (code, signal) => resolve(`${signal ?? code}`)),
  );
  while (!existsSync(qmp)) await new Promise((resolve) => setTimeout(resolve, 20));
  const state = () => {
    const status = execFileSync('grep', ['VmRSS', `/proc/${daemon.pid}/status`]).toString();
    const descriptors = readdirSync(`/proc/${daemon.pid}/fd`).length;
    return `${status.replace(/\s+/g, ' ').trim()}, ${descriptors} descriptors`;
  };
  console.log(`before: ${state()}`);
  const end = Date.now() + seconds * 1000;
  const isOver = () => Date.now() > end;
  let round = 0;
  const [asked, loads, ...mad] = await Promise.all([
    askQmp(isOver),
    repeated(isOver, () => runLoad(nbd, { ...load, seed: round++ })),
    repeated(isOver, () => raveNbd(nbd, random)),
    repeated(isOver, () => raveNbd(nbd, random)),
    repeated(isOver, () => raveQmp(qmp, random)),
    repeated(isOver, () => raveQmp(qmp, random)),
  ]);
  console.log(`after: ${state()}`);
  daemon.kill('SIGTERM');
  console.log(`mad clients: NBD ${mad[0]} + ${mad[1]}, QMP ${mad[2]} + ${mad[3]}`);
  console.log(`served: ${asked} commands, ${loads * load.connections * load.requests} requests`);
  console.log(`the daemon ended with ${await ended}${told === '' ? '' : ` and said:\n${told}`}`);
  console.log(execFileSync('qemu-img', ['check', 'disk.qcow2'], { cwd: dir }).toString().trim());
  cleanup();
}

await main();
