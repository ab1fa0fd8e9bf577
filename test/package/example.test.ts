// The example of a Storage of one's own: it keeps the contract, and images are read through it.

import { copyFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeConsumer, ROOT, runProgram, typeCheck } from '../support/consumer.ts';
import { mustIn, qemuIo } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();

/** What is put under a path is served from there, by ranges. */
const files = new Map<string, Buffer>();
const server = createServer((request, response) => {
  const content = files.get(request.url ?? '');
  if (request.method === 'PUT') {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      files.set(request.url ?? '', Buffer.concat(parts));
      response.end();
    });
    return;
  }
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  if (content === undefined) response.writeHead(404).end();
  else if (range === null) {
    response.writeHead(200, { 'accept-ranges': 'bytes', 'content-length': content.length });
    response.end(request.method === 'HEAD' ? undefined : content);
  } else response.writeHead(206).end(content.subarray(Number(range[1]), Number(range[2]) + 1));
});

let url = '';

beforeAll(async () => {
  makeConsumer(dir, { link: true });
  copyFileSync(join(ROOT, 'examples', 'http-storage.ts'), join(dir, 'http-storage.ts'));
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
  cleanup();
});

async function runs(program: string): Promise<string> {
  writeFileSync(join(dir, 'program.ts'), program);
  await typeCheck(dir, ['program.ts']);
  return runProgram(dir, 'program.ts');
}

test('it keeps the contract of what is only read', async () => {
  const printed = await runs(`
    import { type Place, storageContract } from 'qimg-ts/testing';
    import { openHttpStorage } from './http-storage.js';
    let files = 0;
    async function place(content: Uint8Array): Promise<Place> {
      const url = '${url}/file' + files++;
      await fetch(url, { method: 'PUT', body: content as Uint8Array<ArrayBuffer> });
      return { open: () => openHttpStorage(url) };
    }
    let kept = 0;
    for (const { run } of storageContract(place, { readOnly: true })) {
      await run();
      kept++;
    }
    console.log(kept > 5);`);
  expect(printed).toBe('true\n');
});

test('an image is read, checked, and refused for writing', async () => {
  const image = join(dir, 'disk.qcow2');
  await mustIn(dir, 'qemu-img', 'create', '-q', '-f', 'qcow2', image, '4M');
  await qemuIo(image, ['write -P 7 1M 64k']);
  await mustIn(dir, 'qemu-img', 'convert', '-c', '-O', 'qcow2', image, `${image}.compressed`);
  const printed = await runs(`
    import { readFile } from 'node:fs/promises';
    import { checkImage, ImageError, openChain } from 'qimg-ts';
    import { openHttpStorage } from './http-storage.js';
    const url = '${url}/disk.qcow2';
    await fetch(url, { method: 'PUT', body: await readFile('disk.qcow2.compressed') });
    await using chain = await openChain(await openHttpStorage(url));
    const byte = new Uint8Array(1);
    await chain.read(1024 * 1024, byte);
    const { corruptions, leaks } = await checkImage(await openHttpStorage(url));
    console.log(byte[0], chain.size, corruptions, leaks);
    try {
      await openChain(await openHttpStorage(url), { writable: true });
    } catch (error) {
      if (error instanceof ImageError) console.log(error.code);
    }
    await openHttpStorage('${url}/nothing').catch((error: ImageError) => console.log(error.code));`);
  expect(printed).toBe('7 4194304 0 0\nread-only\nnot-found\n');
});
