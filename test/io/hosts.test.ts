// The two hosts: this machine, and memory.

import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { nodeCodecs } from '../../src/io/codecs.ts';
import type { Host } from '../../src/io/host.ts';
import { MemoryHost } from '../../src/io/memory-host.ts';
import { createNodeHost, nodeHost } from '../../src/io/node-host.ts';
import { pattern } from '../support/storage-contract.ts';
import { tempDir } from '../support/temp.ts';

const HOSTS: [string, (files: Record<string, Uint8Array>) => { host: Host; dir: string }][] = [
  [
    'this machine',
    (files) => {
      const dir = tempDir();
      mkdirSync(join(dir, 'sub'));
      for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content);
      return { host: nodeHost, dir };
    },
  ],
  [
    'memory',
    (files) => {
      const host = new MemoryHost({ codecs: nodeCodecs });
      for (const [name, content] of Object.entries(files)) host.addFile(`/dir/${name}`, content);
      return { host, dir: '/dir' };
    },
  ],
];

describe.for(HOSTS)('%s', ([, make]) => {
  let host: Host;
  let dir: string;
  beforeEach(() => {
    ({ host, dir } = make({ a: pattern(1000, 1), b: pattern(10, 2), 'sub/c': pattern(10, 3) }));
  });

  test('lists the files of a directory, not what lies below', async () => {
    expect([...(await host.listFiles(dir))].sort()).toEqual(['a', 'b']);
    expect(await host.listFiles(join(dir, 'sub'))).toEqual(['c']);
    await expect(host.listFiles(join(dir, 'none'))).rejects.toMatchObject({ code: 'not-found' });
  });

  test('what is written to a file is there when it is opened again', async () => {
    const first = await host.openStorage(join(dir, 'a'), { writable: true });
    await first.write(2000, pattern(10, 4), 'data');
    await first.flush();
    await first.close();
    const second = await host.openStorage(join(dir, 'a'), { writable: false });
    const target = new Uint8Array(10);
    await second.read(2000, target);
    expect(target).toEqual(pattern(10, 4));
    expect(second).toMatchObject({ size: 2010, writable: false, filename: join(dir, 'a') });
    await second.close();
  });

  test('creates files and empties those that exist', async () => {
    for (const name of ['new', 'a']) {
      const storage = await host.createStorage(join(dir, name));
      expect(storage).toMatchObject({ size: 0, writable: true });
      await storage.write(0, pattern(5, 1), 'data');
      await storage.close();
      expect((await host.openStorage(join(dir, name), { writable: false })).size).toBe(5);
    }
  });

  test('a missing file: not found, no identity', async () => {
    const missing = join(dir, 'missing');
    const notFound = {
      code: 'not-found',
      errno: 'ENOENT',
      message: expect.stringContaining(`'${missing}': No such file or directory`),
    };
    await expect(host.openStorage(missing, { writable: false })).rejects.toMatchObject(notFound);
    await expect(host.remove(missing)).rejects.toMatchObject(notFound);
    expect(await host.identify(missing)).toBeUndefined();
  });

  test('removes a file', async () => {
    await host.remove(join(dir, 'a'));
    expect(await host.listFiles(dir)).toEqual(['b']);
  });

  test('one file under two names has one identity', async () => {
    const { id, kind } = (await host.identify(join(dir, 'a'))) ?? {};
    expect(kind).toBe('file');
    expect((await host.identify(`${dir}/sub/../a`))?.id).toBe(id);
    expect((await host.identify(join(dir, 'b')))?.id).not.toBe(id);
    expect((await host.identify(dir))?.kind).toBe('directory');
  });

  test('real paths', async () => {
    const real = await host.realPath(dir);
    expect(await host.realPath(`${dir}/sub/../a`)).toBe(`${real}/a`);
    expect(await host.realPath(`${real}/missing`)).toBe(`${real}/missing`);
  });

  test('sleeps, and wakes with the reason of the signal', async () => {
    const before = host.now();
    await host.sleep(20);
    expect(host.now() - before).toBeGreaterThan(15);
    const reason = new Error('enough');
    const abort = new AbortController();
    const sleep = host.sleep(60_000, abort.signal);
    abort.abort(reason);
    await expect(sleep).rejects.toBe(reason);
    await expect(host.sleep(60_000, abort.signal)).rejects.toBe(reason);
  });
});

test('this machine follows links, and lists them', async () => {
  const dir = tempDir();
  writeFileSync(join(dir, 'file'), 'x');
  symlinkSync('file', join(dir, 'link'));
  expect([...(await nodeHost.listFiles(dir))].sort()).toEqual(['file', 'link']);
  expect((await nodeHost.identify(join(dir, 'link')))?.id).toBe(
    (await nodeHost.identify(join(dir, 'file')))?.id,
  );
  const name = relative(process.cwd(), join(dir, 'link'));
  expect(await nodeHost.realPath(name)).toBe(await nodeHost.realPath(join(dir, 'file')));
});

test('this machine knows its free space', async () => {
  const dir = tempDir();
  const column = process.getuid?.() === 0 ? '%f' : '%a';
  const [blocks = 0, size = 0] = execFileSync('stat', ['-f', '-c', `${column} %S`, dir], {
    encoding: 'utf8',
  })
    .split(' ')
    .map(Number);
  const free = (await nodeHost.freeSpace(dir)) ?? 0;
  expect(Math.abs(free - blocks * size)).toBeLessThan(1024 ** 3);
  expect(await nodeHost.freeSpace(join(dir, 'none', 'there'))).toBeUndefined();
});

test('files of one file system are told from others', async () => {
  const [one, other] = [join(tempDir(), 'one'), join(tempDir(), 'other')];
  for (const name of [one, other]) await (await nodeHost.createStorage(name)).close();
  const place = await nodeHost.fileSystem?.(one);
  expect(place).toEqual(expect.any(String));
  expect(await nodeHost.fileSystem?.(other)).toBe(place);
  expect(await nodeHost.fileSystem?.('/proc/self/status')).not.toBe(place);
  expect(await nodeHost.fileSystem?.('/dev/null')).toBeUndefined();
  expect(await nodeHost.fileSystem?.(join(dirname(one), 'none'))).toBeUndefined();
});

test('a host made without system calls warns where it is told to', async () => {
  const heard: string[] = [];
  const host = createNodeHost({ syscalls: null, warn: (message) => void heard.push(message) });
  const storage = await host.createStorage(join(tempDir(), 'file'));
  await storage.close();
  expect(heard.length).toBe(1);
});

test('memory refuses compressed clusters where it was given no codecs', async () => {
  const { codecs } = new MemoryHost();
  const unsupported = { code: 'unsupported' };
  await expect(codecs.inflateRaw(new Uint8Array(), 1)).rejects.toMatchObject(unsupported);
  await expect(codecs.decompressZstd(new Uint8Array(), 1)).rejects.toMatchObject(unsupported);
});

test('memory gives copies of its files', async () => {
  const host = new MemoryHost();
  const content = pattern(10, 1);
  host.addFile('a/b', content);
  content.fill(0);
  host.fileBytes('/a/b')?.fill(0);
  expect(host.fileBytes('/a/./b')).toEqual(pattern(10, 1));
  expect(host.fileBytes('b')).toBeUndefined();
});
