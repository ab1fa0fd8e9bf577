// Commits in memory: the forms, what they leave, what they refuse.

import { describe, expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { commit } from '../../src/commit/commit.ts';
import type { CommitOptions, CommitPlan } from '../../src/commit/options.ts';
import { ImageError } from '../../src/errors.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { writeField } from '../../src/qcow2/fields.ts';
import { HEADER, INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import { digestsOf } from '../support/memory-chains.ts';
import { expectBytes, expectSoundFile, viewThrough } from '../support/memory-images.ts';
import { addChain, addImage, DISK } from '../support/named-images.ts';
import { pattern } from '../support/storage-contract.ts';
import { WatchedHost } from '../support/watched-host.ts';

const NAMES = ['/base', '/sn1', '/sn2', '/active'];

/** Each layer has written its own quarter, and a part of the one above it. */
async function fourLayers<H extends MemoryHost>(host: H): Promise<H> {
  await addChain(host, ...NAMES);
  for (const [i, name] of NAMES.entries()) {
    await using chain = await openChain(name, { host, writable: true });
    await chain.write((i * DISK) / 4, pattern(Math.min(20_000, DISK - (i * DISK) / 4), i));
  }
  return host;
}

type Form = Omit<CommitOptions, 'host'>;

async function committed(form: Form, host = new MemoryHost()) {
  await fourLayers(host);
  const view = await viewThrough(host, '/active');
  const { plan } = await commit('/active', { host, ...form });
  expectBytes(await viewThrough(host, '/active'), view, 'the view through the top');
  return { host, plan, view };
}

async function backingNames(host: MemoryHost): Promise<string[]> {
  await using chain = await openChain('/active', { host });
  return chain.layers.map(({ filename }) => filename);
}

describe('the forms', () => {
  test('into the backing file: the top is emptied, all else stays', async () => {
    const { host, plan, view } = await committed({});
    expectBytes(await viewThrough(host, '/sn2'), view);
    expect(plan).toMatchObject({ top: '/active', base: '/sn2', empties: '/active', relinks: [] });
    expect(host.fileBytes('/active')).toHaveLength(4 * 4096);
    expect(await backingNames(host)).toEqual(['/active', '/sn2', '/sn1', '/base']);
  });

  test('into the backing file with drop: the top keeps what it has', async () => {
    const host = await fourLayers(new MemoryHost());
    const before = digestsOf(host, ['/active']);
    const { plan } = await commit('/active', { host, drop: true });
    expect(plan.empties).toBeNull();
    expect(digestsOf(host, ['/active'])).toEqual(before);
  });

  test('into a base: the top keeps what it has, the layers between are named', async () => {
    const { host, plan, view } = await committed({ base: '/base' });
    expectBytes(await viewThrough(host, '/base'), view);
    expect(plan).toMatchObject({
      merged: ['/active', '/sn2', '/sn1'],
      invalidates: ['/sn2', '/sn1'],
      empties: null,
      deletes: [],
    });
  });

  test('into a base with relink and delete: only two are left', async () => {
    const { host, plan } = await committed({ base: '/base', relink: true, delete: true });
    expect(plan.relinks).toEqual([{ overlay: '/active', backingFile: 'base' }]);
    expect(plan.deletes).toEqual(['/sn2', '/sn1']);
    expect(await backingNames(host)).toEqual(['/active', '/base']);
    expect(Object.keys(digestsOf(host, NAMES))).toEqual(['/base', '/active']);
  });

  test('of the middle: its overlay stands on the base then', async () => {
    const { host, plan } = await committed({ top: '/sn2', base: '/base', delete: true });
    expect(plan).toMatchObject({ merged: ['/sn2', '/sn1'], deletes: ['/sn2', '/sn1'] });
    expect(await backingNames(host)).toEqual(['/active', '/base']);
  });

  test('of the middle with another overlay of the same top: both are relinked', async () => {
    const host = await fourLayers(new MemoryHost());
    await addImage(host, '/d/other', { backingFile: '../sn2', backingFormat: 'qcow2' });
    const other = await viewThrough(host, '/d/other');
    const form = { top: 'sn2', base: 'sn1', overlays: ['/d/other'], delete: true };
    const { plan } = await commit('/active', { host, ...form });
    expect(plan.relinks.map(({ overlay }) => overlay)).toEqual(['/d/other', '/active']);
    expectBytes(await viewThrough(host, '/d/other'), other);
  });

  test('all images are sound afterwards', async () => {
    const { host } = await committed({ base: 'sn1', relink: true });
    for (const name of ['/base', '/sn1', '/active']) await expectSoundFile(host, name);
  });
});

test('a dry run changes nothing and tells what would be done', async () => {
  const host = await fourLayers(new WatchedHost());
  const before = digestsOf(host, NAMES);
  host.watch = ({ kind }) => {
    throw new Error(`a dry run did ${kind}`);
  };
  const form = { base: '/base', relink: true, delete: true, dryRun: true };
  const { plan, dryRun } = await commit('/active', { host, ...form });
  expect(dryRun).toBe(true);
  expect(plan).toMatchObject({ deletes: ['/sn2', '/sn1'], refusals: [], ranges: 1 });
  expect(digestsOf(host, NAMES)).toEqual(before);
});

test('the plan is told before the first write', async () => {
  const host = await fourLayers(new WatchedHost());
  const log: string[] = [];
  host.watch = ({ kind }) => void log.push(kind);
  const plans: CommitPlan[] = [];
  const onPlan = (plan: CommitPlan) => {
    log.push('plan');
    plans.push(plan);
  };
  const { plan } = await commit('/active', { host, onPlan });
  expect(plans).toEqual([plan]);
  expect(log[0]).toBe('plan');
});

describe('an abort', () => {
  test.each([0, 1, 5, 20])('after %d changes leaves the view; a rerun completes', async (count) => {
    const host = await fourLayers(new WatchedHost());
    const view = await viewThrough(host, '/active');
    const abort = new AbortController();
    const reason = new Error('enough');
    let changes = 0;
    host.watch = () => {
      if (changes++ === count) abort.abort(reason);
    };
    const form = { base: '/base', relink: true, delete: true };
    const stopped = commit('/active', { host, ...form, signal: abort.signal });
    await stopped.catch((error: unknown) => expect(error).toBe(reason));
    host.watch = () => undefined;
    expectBytes(await viewThrough(host, '/active'), view);
    await expectSoundFile(host, '/base');
    if (host.fileBytes('/sn1') !== undefined) await commit('/active', { host, ...form });
    expectBytes(await viewThrough(host, '/active'), view);
    expect(await backingNames(host)).toEqual(['/active', '/base']);
  });

  test('before it begins changes nothing', async () => {
    const host = await fourLayers(new MemoryHost());
    const before = digestsOf(host, NAMES);
    const signal = AbortSignal.abort(new Error('never mind'));
    await expect(commit('/active', { host, signal })).rejects.toThrow('never mind');
    expect(digestsOf(host, NAMES)).toEqual(before);
  });
});

describe('an error half-way', () => {
  test('is told as that of the job; the view stays, a rerun completes it', async () => {
    const host = await fourLayers(new WatchedHost());
    const view = await viewThrough(host, '/active');
    host.watch = (change) => {
      if (change.kind === 'write' && change.what === 'data') {
        throw new ImageError('no-space', 'no room', { errno: 'ENOSPC' });
      }
    };
    await expect(commit('/active', { host })).rejects.toMatchObject({
      code: 'no-space',
      errno: 'ENOSPC',
      message: 'Block job failed: No space left on device',
      hint: expect.stringContaining('the same command completes the commit'),
    });
    host.watch = () => undefined;
    expectBytes(await viewThrough(host, '/active'), view);
    await expectSoundFile(host, '/sn2');
    await commit('/active', { host });
    expectBytes(await viewThrough(host, '/sn2'), view);
  });
});

describe('what is refused before the first write:', () => {
  async function expectRefused(host: MemoryHost, form: Form, expected: object): Promise<void> {
    const names = [...NAMES, '/other'];
    const before = digestsOf(host, names);
    await expect(commit('/active', { host, ...form })).rejects.toMatchObject(expected);
    expect(digestsOf(host, names)).toEqual(before);
  }

  test('an image without a backing file', async () => {
    const host = await fourLayers(new MemoryHost());
    await expect(commit('/base', { host })).rejects.toMatchObject({
      code: 'invalid',
      message: 'Image does not have a backing file',
    });
  });

  test.each<[string, Form, string]>([
    ['a base that is no layer', { base: 'nope' }, 'nope'],
    ['the top itself as its base', { base: '/active' }, '/active'],
    ['a base above the top', { top: '/sn1', base: '/sn2' }, '/sn2'],
    ['a top that is no layer', { top: 'nope', base: '/base' }, 'nope'],
  ])('%s', async (_what, form, name) => {
    const host = await fourLayers(new MemoryHost());
    const message = `Did not find '${name}' in the backing chain of '/active'`;
    await expectRefused(host, form, { code: 'not-found', message });
  });

  test('the deepest layer as the top', async () => {
    const host = await fourLayers(new MemoryHost());
    const message = "'/base' does not have a backing file";
    await expectRefused(host, { top: '/base' }, { code: 'invalid', message });
  });

  test('a base whose format was guessed', async () => {
    const host = await fourLayers(new MemoryHost());
    host.addFile('/guessed', new Uint8Array(DISK));
    await addImage(host, '/active', { backingFile: 'guessed' });
    const message = expect.stringContaining('a guessed format (raw) is not written to');
    await expectRefused(host, {}, { code: 'invalid', message });
  });

  test('a base that is marked corrupt', async () => {
    const host = await fourLayers(new MemoryHost());
    const bytes = host.fileBytes('/sn2') ?? new Uint8Array();
    writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.corrupt);
    host.addFile('/sn2', bytes);
    await expectRefused(host, {}, { code: 'corrupt' });
  });

  test('another overlay of the base, but for force', async () => {
    const host = await fourLayers(new MemoryHost());
    await addImage(host, '/other', { backingFile: 'sn2', backingFormat: 'qcow2' });
    const message = expect.stringContaining("'/other'");
    await expectRefused(host, {}, { code: 'siblings', message });
    const dry = await commit('/active', { host, dryRun: true });
    expect(dry.plan).toMatchObject({ siblings: ['/other'], refusals: [message] });
    const { plan } = await commit('/active', { host, force: true });
    expect(plan.siblings).toEqual(['/other']);
  });

  test('another overlay in a directory that is to be searched', async () => {
    const host = await fourLayers(new MemoryHost());
    await addImage(host, '/far/other', { backingFile: '../sn2', backingFormat: 'qcow2' });
    await expectRefused(host, { search: ['/far'] }, { code: 'siblings' });
    await commit('/active', { host });
  });

  test('too little space, with both numbers', async () => {
    class FullHost extends MemoryHost {
      override async freeSpace(): Promise<undefined> {
        return 4096 as unknown as undefined;
      }
    }
    const host = await fourLayers(new FullHost());
    const message = expect.stringMatching(
      /'\/sn2' needs \d+ bytes more in '\/', and 4096 are free/,
    );
    await expectRefused(host, {}, { code: 'no-space', errno: 'ENOSPC', message });
    await commit('/active', { host, force: true });
  });

  test('an overlay that does not stand on the top', async () => {
    const host = await fourLayers(new MemoryHost());
    await addImage(host, '/other', { backingFile: 'base', backingFormat: 'qcow2' });
    const message = "The backing file of '/other' is not '/sn2'";
    const form = { top: '/sn2', base: '/sn1', overlays: ['/other'] };
    await expectRefused(host, form, { code: 'invalid', message });
  });

  test('an overlay that stands on the base already, in a directory of its own', async () => {
    const host = await fourLayers(new MemoryHost());
    await addImage(host, '/d/other', { backingFile: '../sn1', backingFormat: 'qcow2' });
    const form = { top: '/sn2', base: '/sn1', overlays: ['/d/other'] };
    await expectRefused(host, form, {
      code: 'siblings',
      message: expect.stringContaining("'/d/other'"),
    });
  });

  test('overlays of the named image', async () => {
    const host = await fourLayers(new MemoryHost());
    const form = { top: '/active', base: '/sn1', overlays: ['/other'] };
    const message = "'/active' is the named image itself: it has no overlays to relink";
    await expectRefused(host, form, { code: 'invalid', message });
  });
});

test('a dirty base is rebuilt first, and the plan says so', async () => {
  const host = await fourLayers(new MemoryHost());
  const bytes = host.fileBytes('/sn2') ?? new Uint8Array();
  writeField(bytes, HEADER.incompatibleFeatures, INCOMPATIBLE.dirty);
  host.addFile('/sn2', bytes);
  const { plan } = await commit('/active', { host });
  expect(plan.rebuildsRefcounts).toBe(true);
  await expectSoundFile(host, '/sn2');
});

test('a smaller top leaves the rest of the base alone; a larger one makes it grow', async () => {
  const host = new MemoryHost();
  await addImage(host, '/base', { filled: 1 });
  const backing = { backingFile: 'base', backingFormat: 'qcow2' };
  await addImage(host, '/small', { ...backing, size: 10_240, filled: 2 });
  await commit('/small', { host });
  const expected = pattern(DISK, 1);
  expected.set(pattern(10_240, 2));
  expectBytes(await viewThrough(host, '/base'), expected);
  await addImage(host, '/large', { ...backing, size: 2 * DISK });
  const { plan } = await commit('/large', { host, force: true });
  expect(plan).toMatchObject({ baseSize: DISK, newBaseSize: 2 * DISK });
  expectBytes(await viewThrough(host, '/base'), Buffer.concat([expected, new Uint8Array(DISK)]));
});
