// A kernel that fails at the n-th call of each kind, once and for ever, under commits of real files: what
// is short, or interrupted once, goes unseen; the rest is a clear error with file and offset. Files are
// sound, and another run finishes.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { asQcow2 } from '../../src/chain/chain.ts';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import { ImageError } from '../../src/errors.ts';
import type { Host } from '../../src/io/host.ts';
import { createNodeHost, nodeHost } from '../../src/io/node-host.ts';
import type { Syscalls } from '../../src/io/syscalls.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { randomFrom } from '../support/crash.ts';
import { buildLayers } from '../support/crash-operations/layers.ts';
import {
  CALLS,
  type Call,
  disturb,
  disturbedSyscalls,
  type Fate,
  restore,
} from '../support/disturbed-calls.ts';

const NAMES = ['base', 'mid', 'top'] as const;
const LAYERS = await buildLayers(
  [{ name: '/base', sectors: 60 }, { name: '/mid', clusterSize: 4096 }, { name: '/top' }],
  randomFrom(3),
);
const COMMITS = {
  'the top, emptied': {},
  'two layers, relinked, removed': { base: 'base', relink: true, delete: true },
} as const;
/** Calls of a kind that fail: the first ones, and so many further on. */
const FIRST = 4;
const MORE = 4;

type Way = readonly [fate: Exclude<Fate, undefined>, forever: boolean];
const SEEN: readonly Way[] = [
  ['EIO', false],
  ['EIO', true],
  ['EINTR', true],
];
const WAYS: Readonly<Record<Call, readonly Way[]>> = {
  open: SEEN,
  read: [...SEEN, ['short', false], ['short', true], ['EINTR', false]],
  write: [
    ...SEEN,
    ['ENOSPC', false],
    ['ENOSPC', true],
    ['short', false],
    ['short', true],
    ['EINTR', false],
  ],
  sync: [...SEEN, ['ENOSPC', true], ['EINTR', false]],
  truncate: [...SEEN, ['ENOSPC', true], ['EINTR', false]],
  copy: [...SEEN, ['ENOSPC', true], ['short', false], ['short', true], ['EINTR', false]],
  punch: [...SEEN, ['EINTR', false]],
  lock: SEEN,
};
const isUnseen = (fate: Fate, forever: boolean) =>
  fate === 'short' || (fate === 'EINTR' && !forever);

async function viewOf(file: string, host: Host = nodeHost): Promise<Buffer> {
  await using chain = await openChain(file, { host });
  const view = Buffer.alloc(chain.size);
  await chain.read(0, view);
  return view;
}

function put(dir: string): void {
  for (const [name, bytes] of LAYERS) writeFileSync(join(dir, basename(name)), bytes);
}

/** Sound, and the view as it was. */
async function expectKept(dir: string, view: Buffer): Promise<void> {
  expect((await viewOf(join(dir, 'top'))).equals(view)).toBe(true);
  for (const name of NAMES) {
    const file = join(dir, name);
    if ((await nodeHost.identify(file)) === undefined) continue;
    await using chain = await openChain(file, { host: nodeHost, single: true });
    const { corruptions } = await checkImage(asQcow2(chain.top), () => undefined);
    expect({ name, corruptions }).toEqual({ name, corruptions: 0 });
  }
}

function expectClear(error: unknown): void {
  expect(error).toBeInstanceOf(ImageError);
  const { message, hint } = error as ImageError;
  const text = `${message}\n${hint}`;
  expect(text).toMatch(/Could not \w+( \w+)? '[^']*\/(base|mid|top)'/);
  if (/Could not (read from|write to|zero|copy to|resize) /.test(text)) {
    expect(text).toMatch(/' at offset \d+: /);
  }
  expect(text).toMatch(/unchanged|Nothing was changed|The commit itself is complete/);
  expect(text).toMatch(/the same command/);
}

test.each(Object.entries(COMMITS))('%s', { timeout: 120_000 }, async (_form, { ...request }) => {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-calls-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  onTestFinished(restore);
  put(dir);
  const view = await viewOf(join(dir, 'top'));
  const base = 'base' in request ? { ...request, base: join(dir, 'base') } : request;
  const run = async (decide: (call: Call) => Fate): Promise<unknown> => {
    const syscalls: Syscalls = await disturbedSyscalls(decide);
    const host = createNodeHost({ syscalls });
    disturb(decide);
    try {
      return await commit(join(dir, 'top'), { host, ...base }).then(
        () => undefined,
        (error: unknown) => error,
      );
    } finally {
      restore();
    }
  };
  const counts = new Map<Call, number>();
  await run((call) => {
    counts.set(call, (counts.get(call) ?? 0) + 1);
    return undefined;
  });
  const random = randomFrom(1);
  for (const kind of CALLS) {
    const count = counts.get(kind) ?? 0;
    const picked = new Set(Array.from({ length: Math.min(count, FIRST) }, (_, n) => n));
    for (let i = 0; i < MORE && count > FIRST; i++) picked.add(FIRST + random(count - FIRST));
    if (count > FIRST) picked.add(count - 1);
    for (const n of picked) {
      for (const [fate, forever] of WAYS[kind]) {
        put(dir);
        let met = 0;
        const outcome = await run((call) => {
          if (call !== kind) return undefined;
          const now = met++;
          return now === n || (forever && now > n) ? fate : undefined;
        });
        const when = `${kind} ${n} of ${count}: ${fate}${forever ? ' for ever' : ''}`;
        if (isUnseen(fate, forever))
          expect({ when, outcome }).toEqual({ when, outcome: undefined });
        else if (outcome !== undefined) expectClear(outcome);
        await expectKept(dir, view);
        await commit(join(dir, 'top'), { host: nodeHost, ...base });
        await expectKept(dir, view);
      }
    }
  }
  const met = CALLS.filter((call) => (counts.get(call) ?? 0) > 0);
  const here: Call[] = 'base' in request ? ['copy'] : ['truncate', 'punch'];
  expect(met).toEqual(expect.arrayContaining(['open', 'read', 'write', 'sync', 'lock', ...here]));
});
