// Another backing file, as a program gives it.

import { beforeEach, expect, test } from 'vitest';
import {
  type CommitProgress,
  createImage,
  MemoryHost,
  openChain,
  planRebase,
  type RebaseOptions,
  rebase,
} from '../../src/index.ts';
import { digestsOf } from '../support/memory-chains.ts';
import { expectBytes } from '../support/memory-images.ts';

const MIB = 1024 * 1024;
const OTHER = { backingFile: 'other', backingFormat: 'qcow2' } as const;
let host: MemoryHost;

beforeEach(async () => {
  host = new MemoryHost();
  await using base = await createImage('base', { host, size: 4 * MIB });
  await base.write(0, new Uint8Array(2 * MIB).fill(1));
  await base.close();
  await using other = await createImage('other', { host, size: 3 * MIB });
  await other.write(MIB, new Uint8Array(2 * MIB).fill(1));
  await other.close();
  const backing = { backingFile: 'base', backingFormat: 'qcow2' } as const;
  await using top = await createImage('top', { host, size: 6 * MIB, ...backing });
  await top.write(MIB / 2, new Uint8Array(MIB).fill(2));
});

async function view(name = 'top'): Promise<Uint8Array> {
  await using chain = await openChain(name, { host });
  const bytes = new Uint8Array(chain.size);
  await chain.read(0, bytes);
  return bytes;
}

const failure = (options: RebaseOptions) =>
  rebase('top', { host, ...options }).catch((error: unknown) => error);

test('what differs is copied, and the view stays', async () => {
  const before = await view();
  const report = await rebase('top', { host, ...OTHER });
  expect(report).toEqual({
    image: 'top',
    oldBackingFile: 'base',
    backingFile: 'other',
    comparedBytes: 2 * MIB,
    copiedBytes: MIB / 2,
    zeroedBytes: MIB,
    refusals: [],
  });
  expectBytes(await view(), before, 'the view');
  await using chain = await openChain('top', { host });
  expect(chain.layers.map(({ filename }) => filename)).toEqual(['top', 'other']);
});

test('without a backing file it holds everything itself', async () => {
  const before = await view();
  const report = await rebase('top', { host, backingFile: null });
  expect(report).toMatchObject({ backingFile: null, copiedBytes: MIB, zeroedBytes: 0 });
  await host.remove('base');
  expectBytes(await view(), before, 'the view');
});

test('planned, it is told, and nothing is written', async () => {
  const before = digestsOf(host, ['top']);
  const plan = await planRebase('top', { host, ...OTHER });
  expect(digestsOf(host, ['top'])).toEqual(before);
  expect(await rebase('top', { host, ...OTHER })).toEqual(plan);
});

test('unsafe, the name alone is changed', async () => {
  const report = await rebase('top', { host, ...OTHER, unsafe: true });
  expect(report).toMatchObject({ comparedBytes: 0, copiedBytes: 0, zeroedBytes: 0 });
  expect((await view())[2 * MIB]).toBe(1);
});

test('a backing file that is not there is refused, also unsafe', async () => {
  const gone = { backingFile: 'gone', backingFormat: 'qcow2' } as const;
  expect(await failure(gone)).toMatchObject({
    code: 'not-found',
    message:
      "Could not open new backing file 'gone': Could not open 'gone': No such file or directory",
  });
  expect(await failure({ ...gone, unsafe: true })).toMatchObject({ code: 'invalid' });
  await rebase('top', { host, ...gone, unsafe: true, force: true });
  await expect(view()).rejects.toThrow(/gone/);
});

test('a backing file that stands on the image itself is refused, by any name', async () => {
  await (
    await createImage('up', { host, size: MIB, backingFile: 'top', backingFormat: 'qcow2' })
  ).close();
  for (const backingFile of ['top', './top', 'up']) {
    for (const unsafe of [false, true]) {
      const options = { backingFile, backingFormat: 'qcow2', unsafe, force: true } as const;
      expect(await failure(options)).toMatchObject({
        code: 'invalid',
        message: `'${backingFile}' can't be the backing file of 'top': it stands on that image itself`,
      });
    }
  }
});

test('a format has to be given, and the hint says which', async () => {
  expect(await failure({ backingFile: 'other' })).toMatchObject({
    code: 'invalid',
    hint: 'Add backingFormat qcow2 if that is right: its content looks like that.',
  });
  expect(await failure({ backingFile: '' })).toMatchObject({ code: 'invalid' });
});

test('progress goes from nothing to the whole disk', async () => {
  const told: CommitProgress[] = [];
  await rebase('top', { host, ...OTHER, onProgress: (now) => told.push(now) });
  expect(told[0]).toMatchObject({ done: 0, total: 6 * MIB });
  expect(told.at(-1)).toMatchObject({ done: 6 * MIB, total: 6 * MIB });
});

test('cancelled, the image stands on its old backing file', async () => {
  const before = await view();
  const stop = new AbortController();
  const reason = new Error('enough');
  const onProgress = ({ done }: CommitProgress) => done > 0 && stop.abort(reason);
  const cancelled = rebase('top', { host, ...OTHER, signal: stop.signal, onProgress });
  await expect(cancelled).rejects.toBe(reason);
  expectBytes(await view(), before, 'the view');
  await using chain = await openChain('top', { host });
  expect(chain.layers[1]?.filename).toBe('base');
});

test.each([
  [undefined, MIB],
  [512, MIB],
  [2 * MIB, 0],
  [0, 0],
])('runs of zeros of %s bytes at least become zero clusters', async (sparseSize, zeroed) => {
  const before = await view();
  const report = await rebase('top', {
    host,
    ...OTHER,
    ...(sparseSize !== undefined && { sparseSize }),
  });
  expect(report.zeroedBytes >= zeroed).toBe(true);
  expect(report.zeroedBytes > 0).toBe(zeroed > 0);
  expectBytes(await view(), before);
});

test.each([-512, 1000, 2 ** 31, 0.5])('sparseSize %s is none', async (sparseSize) => {
  await expect(failure({ host, ...OTHER, sparseSize })).resolves.toMatchObject({ code: 'invalid' });
});
