// Checks and commits as a program uses them.

import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import {
  checkImage,
  commit,
  commitEvents,
  createImage,
  MemoryHost,
  openChain,
  planCommit,
  rateLimit,
} from '../../src/index.ts';
import { pattern } from '../support/storage-contract.ts';

const MIB = 1024 * 1024;
let host: MemoryHost;

beforeEach(async () => {
  host = new MemoryHost();
  await (await createImage('base', { host, size: 8 * MIB })).close();
  const backing = { backingFile: 'base', backingFormat: 'qcow2' } as const;
  const top = await createImage('top', { host, size: 8 * MIB, ...backing });
  await top.write(0, pattern(6 * MIB, 1));
  await top.close();
});

/** A digest: megabytes are compared slowly by the test runner. */
const digest = (bytes: Uint8Array | undefined) =>
  createHash('sha256')
    .update(bytes ?? 'nothing')
    .digest('hex');

async function view(name: string): Promise<string> {
  await using chain = await openChain(name, { host });
  const bytes = new Uint8Array(chain.size);
  await chain.read(0, bytes);
  return digest(bytes);
}

test('a check tells its findings as data, as many as are asked for', async () => {
  expect(await checkImage('top', { host })).toMatchObject({
    corruptions: 0,
    leaks: 0,
    findings: [],
  });
  const bytes = host.fileBytes('top') ?? new Uint8Array();
  // The refcount block is in the third cluster: the header is called free, another one counted more
  // often than it is used.
  bytes.set([0, 0], 2 * 65536);
  bytes.set([0, 5], 2 * 65536 + 4 * 2);
  const report = await checkImage(bytes);
  expect(report.corruptions).toBeGreaterThan(0);
  expect(report.findings.map(({ kind }) => kind)).toContain('corruption');
  expect(report.findings.map(({ kind }) => kind)).toContain('leak');
  expect((await checkImage(bytes, { maxFindings: 1 })).findings).toHaveLength(1);
  expect(report.totalClusters).toBe(128);
  for (const maxFindings of [-1, 0.5, 1_000_001]) {
    await expect(checkImage(bytes, { maxFindings })).rejects.toMatchObject({ code: 'invalid' });
  }
});

test('a check is stopped by its signal, and refuses raw files', async () => {
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  await expect(checkImage('top', { host, signal })).rejects.toBe(reason);
  await expect(checkImage(new Uint8Array(512))).rejects.toMatchObject({ code: 'unsupported' });
});

test('a plan writes nothing, and tells what a commit then does', async () => {
  const before = digest(host.fileBytes('base'));
  const plan = await planCommit('top', { host });
  expect(plan).toMatchObject({ copyBytes: 6 * MIB, empties: 'top', refusals: [] });
  expect(digest(host.fileBytes('base'))).toBe(before);
  const seen = await view('top');
  expect(await commit('top', { host })).toEqual(plan);
  expect(await view('base')).toEqual(seen);
});

test('events: the plan, progress, the end', async () => {
  const kinds: string[] = [];
  for await (const event of commitEvents('top', { host })) kinds.push(event.kind);
  expect(kinds.filter((kind, i) => kind !== kinds[i - 1])).toEqual(['plan', 'progress', 'done']);
});

test('leaving the events cancels at a safe point, and another run completes it', async () => {
  const seen = await view('top');
  const limit = rateLimit(MIB);
  for await (const event of commitEvents('top', { host, rateLimit: limit })) {
    if (event.kind === 'progress') break;
  }
  expect(await view('top')).toEqual(seen);
  expect(await view('base')).not.toEqual(seen);
  limit.setRate(0);
  await commit('top', { host, rateLimit: limit });
  expect(await view('base')).toEqual(seen);
});

test('events reject as the commit does', async () => {
  const reason = new Error('enough');
  const events = commitEvents('top', { host, signal: AbortSignal.abort(reason) });
  await expect(async () => {
    for await (const _ of events);
  }).rejects.toBe(reason);
  const bad = commitEvents('nothing', { host });
  await expect(bad.next()).rejects.toMatchObject({ code: 'not-found' });
  const limit = { rate: 1, setRate: () => undefined };
  await expect(commit('top', { host, rateLimit: limit })).rejects.toMatchObject({
    code: 'invalid',
  });
});

test('layers that let go as they are merged: told of in the plan, and refused in its own words', async () => {
  const plan = await planCommit('top', { host, reclaim: true });
  expect(plan).toMatchObject({ reclaims: ['top'], peakBytes: plan.growthBytes });
  await expect(commit('top', { host, reclaim: true, drop: true })).rejects.toMatchObject({
    message: 'reclaim goes without drop: it takes from the top what that leaves there',
  });
  const before = await view('top');
  await commit('top', { host, reclaim: true });
  expect(await view('base')).toBe(before);
  expect(host.fileBytes('top')?.length).toBeLessThan(MIB);
});
