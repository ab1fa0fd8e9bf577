// Clients of others judge our server: QEMU's, libnbd's. What they see is what qemu-nbd shows of the same
// image, and what they write is in the image.

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { serveFile, uriOf } from '../support/nbd.ts';
import { must, qemuImg, qemuIo, run } from '../support/qemu.ts';
import { qemuNbd } from '../support/qemu-nbd.ts';
import { tempDir } from '../support/temp.ts';

const MIB = 1024 * 1024;

/** A chain with data, zeros and holes, part of them below, and bitmaps in the top. */
async function buildChain(): Promise<{ readonly dir: string; readonly top: string }> {
  const dir = tempDir();
  const [base, top] = [join(dir, 'base.qcow2'), join(dir, 'top.qcow2')];
  await qemuImg('create', '-q', '-f', 'qcow2', base, '30M');
  await qemuIo(base, [
    'write -P 1 0 3M',
    'write -P 2 10M 1M',
    'write -z 20M 1M',
    'write -P 3 29M 1M',
  ]);
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '40M');
  await qemuImg('bitmap', '--add', '-g', '64k', top, 'b0');
  await qemuImg('bitmap', '--add', '--disable', top, 'b1');
  await qemuIo(top, [
    'write -P 4 1M 1000',
    'write -z 10M 512k',
    'write -P 5 35M 2M',
    'discard 2M 64k',
  ]);
  return { dir, top };
}

describe('what nbdinfo shows is what it shows of qemu-nbd', () => {
  const contexts = [
    'base:allocation',
    'qemu:allocation-depth',
    'qemu:dirty-bitmap:b0',
    'qemu:dirty-bitmap:b1',
  ];

  test('of an overlay with bitmaps', async () => {
    const { top } = await buildChain();
    // It tells them in the opposite order.
    const options = ['-f', 'qcow2', '-A', '-B', 'b1', '-B', 'b0', '--discard=unmap'];
    const theirs = await qemuNbd(top, ['-r', ...options]);
    const qemu = uriOf(theirs.socket);
    const ask = async (uri: string) => ({
      json: (await must('nbdinfo', '--json', '--no-content', uri)).replace(uri, 'URI'),
      list: (await must('nbdinfo', '--json', '--list', '--no-content', uri)).replace(uri, 'URI'),
      maps: await Promise.all(contexts.map((name) => must('nbdinfo', `--map=${name}`, uri))),
    });
    const expected = await ask(qemu);
    await theirs.stop();
    const { uri } = await serveFile(top, {
      served: { writable: false, allocationDepth: true, bitmaps: ['b0', 'b1'] },
    });
    expect(await ask(uri)).toEqual(expected);
    // The last bitmap records nothing.
    expect(expected.maps.slice(0, 3).every((map) => map.split('\n').length > 2)).toBe(true);
  });

  test('of a raw file with holes', async () => {
    const file = join(tempDir(), 'disk.raw');
    await qemuImg('create', '-q', '-f', 'raw', file, '8M');
    await qemuIo(file, ['write -P 1 1M 64k', 'write -P 1 5M 1M'], 'raw');
    const theirs = await qemuNbd(file, ['-f', 'raw', '-A', '-D', 'a disk']);
    const ask = async (uri: string) => [
      (await must('nbdinfo', '--json', '--no-content', uri)).replace(uri, 'URI'),
      await must('nbdinfo', '--map', uri),
      await must('nbdinfo', '--map=qemu:allocation-depth', uri),
    ];
    const expected = await ask(uriOf(theirs.socket));
    await theirs.stop();
    const served = { allocationDepth: true, description: 'a disk' };
    const { uri } = await serveFile(file, { chain: { format: 'raw' }, served });
    expect(await ask(uri)).toEqual(expected);
  });
});

describe('copies and comparisons', () => {
  test('of qemu-img and nbdcopy read the image', async () => {
    const { dir, top } = await buildChain();
    const { uri } = await serveFile(top);
    const [a, b, c] = ['a.qcow2', 'b.raw', 'c.raw'].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', uri, a);
    await must('nbdcopy', uri, b);
    await must('nbdcopy', '--synchronous', '--connections=1', uri, c);
    for (const copy of [a, b, c]) await qemuImg('compare', '-U', copy, top);
    await qemuImg('compare', '-f', 'raw', '-F', 'raw', uri, b);
    const map = JSON.parse(await qemuImg('map', '--output=json', '-f', 'raw', uri)) as unknown[];
    expect(map.length).toBeGreaterThan(5);
  });

  test('write the image, many requests at once', async () => {
    const { dir, top } = await buildChain();
    const source = join(dir, 'source.raw');
    await qemuImg('convert', '-O', 'raw', top, source);
    const target = join(dir, 'target.qcow2');
    await qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', target, '40M');
    const { uri, server } = await serveFile(target, { disk: { unmap: true } });
    await must('nbdcopy', '--requests=64', '--request-size=16384', '--flush', source, uri);
    await qemuImg('compare', '-U', source, target);
    await qemuImg('convert', '-n', '-W', '-m', '16', '-f', 'raw', '-O', 'raw', source, uri);
    await must('nbdcopy', '--destination-is-zero', '--allocated', source, uri);
    const bench = ['-w', '-c', '2000', '-d', '32', '-s', '3000', '-S', '7000', '-f', 'raw'];
    await qemuImg('bench', ...bench, '--flush-interval=100', '--no-drain', uri);
    await qemuImg('bench', '-c', '2000', '-d', '64', '-s', '4096', '-f', 'raw', uri);
    await server.stop();
    expect((await run('qemu-img', ['check', '-U', target])).stdout).toContain(
      'No errors were found',
    );
  });

  test('qemu-io finds what it wrote', async () => {
    const { dir, top } = await buildChain();
    copyFileSync(top, join(dir, 'before.qcow2'));
    const { uri, server } = await serveFile(top, { disk: { unmap: true } });
    await qemuIo(
      uri,
      [
        'write -P 7 123 7777',
        'read -P 7 123 7777',
        'aio_write -P 8 5M 3M',
        'aio_write -P 9 6M 100k',
        'aio_flush',
        'read -P 9 6M 100k',
        'write -z -u 30M 1M',
        'read -P 0 30M 1M',
        'write -z 31M 1M',
        'discard 10M 2M',
        'write -f -P 10 40960 1',
        'read -P 10 40960 1',
        'flush',
      ],
      'raw',
    );
    await server.stop();
    expect((await run('qemu-img', ['check', '-U', top])).code).toBe(0);
  });
});

describe('scripts of nbdsh', () => {
  const sh = async (uri: string, ...lines: readonly string[]) => {
    const args = ['-c', 'h.add_meta_context("base:allocation")', '-u', uri];
    const commands = lines.flatMap((line) => ['-c', line]);
    // The module belongs to the system's Python, whichever else comes first.
    const env = { ...process.env, PATH: `/usr/bin:/bin:${process.env['PATH'] ?? ''}` };
    const { code, stdout, stderr } = await run('nbdsh', [...args, ...commands], { env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return stdout.trim();
  };

  test('use every command and flag', async () => {
    const { top } = await buildChain();
    const { uri } = await serveFile(top, { disk: { unmap: true } });
    const told = await sh(
      uri,
      'h.pwrite(b"x"*4096, 8192, nbd.CMD_FLAG_FUA)',
      'assert h.pread(4096, 8192, 0) == b"x"*4096',
      'assert h.pread_structured(4*1024*1024, 0, lambda *a: 0, nbd.CMD_FLAG_DF)[0:4] == b"\\1"*4',
      'h.zero(65536*2, 0, nbd.CMD_FLAG_FUA)',
      'assert h.pread(65536*2, 0) == bytearray(65536*2)',
      'h.zero(65536, 65536, nbd.CMD_FLAG_NO_HOLE)',
      'h.zero(65536, 0, nbd.CMD_FLAG_FAST_ZERO)',
      'h.trim(65536, 0, nbd.CMD_FLAG_FUA)',
      'h.cache(1024*1024, 1024*1024)',
      'h.flush()',
      'e = []',
      'h.block_status(40*1024*1024, 0, lambda c, o, x, err: e.extend(x), nbd.CMD_FLAG_REQ_ONE)',
      'assert e == [131072, 3], e',
      'h.block_status(40*1024*1024, 0, lambda c, o, x, err: e.extend(x))',
      'assert sum(e[2::2]) == 40*1024*1024, e',
      'print("done")',
    );
    expect(told).toBe('done');
  });

  test('hear of errors by their numbers', async () => {
    const { top } = await buildChain();
    const { uri } = await serveFile(top, { served: { writable: false } });
    const numbers = await sh(
      uri,
      'h.set_strict_mode(0)',
      [
        'def number(f):',
        '  try:',
        '    f()',
        '  except nbd.Error as e:',
        '    return e.errno',
      ].join('\n'),
      'size = h.get_size()',
      'reads = [number(lambda: h.pread(2, size - 1)), number(lambda: h.block_status(0, 0, print))]',
      'writes = [number(lambda: h.pwrite(b"a", 0)), number(lambda: h.zero(1, 0)), number(lambda: h.trim(1, 0))]',
      'print(reads, writes, h.is_read_only())',
    );
    expect(numbers).toBe("['EINVAL', 'EINVAL'] ['EPERM', 'EPERM', 'EPERM'] True");
  });

  test('fast zeroes are refused where they would be data', async () => {
    const file = join(tempDir(), 'disk.raw');
    await qemuImg('create', '-q', '-f', 'raw', file, `${MIB}`);
    const { uri } = await serveFile(file, { chain: { format: 'raw' } });
    const told = await sh(
      uri,
      [
        'try:',
        '  h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)',
        'except nbd.Error as e:',
        '  print(e.errno)',
      ].join('\n'),
    );
    expect(told).toBe('ENOTSUP');
  });
});
