// The README's programs: they are found, type-checked and run as they stand, on chains made by QEMU.

import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeConsumer, ROOT, runProgram, typeCheck } from '../support/consumer.ts';
import { mustIn, qemuIo } from '../support/qemu.ts';
import { makeTemp } from '../support/temp.ts';

const { dir, cleanup } = makeTemp();
const chains = join(dir, 'chains');
const PROGRAMS = programsOf(readFileSync(join(ROOT, 'README.md'), 'utf8'));

interface Program {
  /** Of the section, with a number from the second program on. */
  readonly name: string;
  readonly text: string;
}

function programsOf(readme: string): readonly Program[] {
  let heading = '';
  let number = 0;
  const found: Program[] = [];
  for (const [, title, text] of readme.matchAll(/^#+ (.*)$|^```ts\n([\s\S]*?)^```$/gm)) {
    if (title !== undefined) {
      heading = title;
      number = 0;
    } else if (text !== undefined) {
      number++;
      found.push({ name: number === 1 ? heading : `${heading} (${number})`, text });
    }
  }
  return found;
}

/** What there is to see afterwards, beside that it ran. */
const OUTCOMES: Readonly<Record<string, (dir: string, printed: string) => Promise<void> | void>> = {
  'Look at a chain, read and write through it': async (at, printed) => {
    expect(printed).toMatch(/sn4\.qcow2 qcow2 8388608\n.*sn3\.qcow2 qcow2 8388608\n/);
    await sameView(at, 'sn5.qcow2', '../chains/sn4.qcow2');
  },
  'Flatten a chain': async (at) => {
    await sameView(at, 'flat.qcow2', 'sn4.qcow2');
    expect(await mustIn(at, 'qemu-img', 'info', 'flat.qcow2')).not.toContain('backing');
  },
  'Merge two layers, with progress, and cancel': (at, printed) => merged(at, printed),
  'Merge two layers, with progress, and cancel (2)': (at, printed) => {
    expect(printed).toMatch(/^\d+ bytes to copy\n0 of/);
    return merged(at, printed);
  },
  'Inspect an image in memory': (_, printed) => {
    expect(printed).toBe('qcow2 8388608 65536 base.qcow2 3 false\n0 0 []\n');
  },
  'Repair an image': (_, printed) => expect(printed).toBe('0 0 true\n'),
  'Watch extents': (_, printed) => {
    expect(printed).toMatch(/sn4\.qcow2 holds 65536 bytes, of which 65536 are seen/);
    expect(printed).toMatch(/base\.qcow2 holds 1048576 bytes, of which 589824 are seen/);
  },
  'Compare, and find the bytes': (_, printed) => {
    expect(printed).toMatch(/^differs from byte 0 on\n/);
    expect(printed).toMatch(/\n393216 65536 (.*\/)?sn4\.qcow2 \d+\n/);
  },
  'Images elsewhere': (_, printed) => expect(printed).toMatch(/[#ℹ] fail 0/),
};

async function merged(at: string, printed: string): Promise<void> {
  expect(printed).toMatch(/no longer needed: \[ '(.*\/)?sn3\.qcow2' \]/);
  await sameView(at, 'sn4.qcow2', '../chains/sn4.qcow2');
  const info = await mustIn(at, 'qemu-img', 'info', 'sn4.qcow2');
  expect(info).toMatch(/backing file: sn2\.qcow2/);
}

async function sameView(at: string, one: string, other: string): Promise<void> {
  await mustIn(at, 'qemu-img', 'compare', one, other);
}

beforeAll(async () => {
  makeConsumer(dir, { link: true });
  await mustIn(dir, 'mkdir', 'chains');
  await mustIn(chains, 'qemu-img', 'create', '-q', '-f', 'qcow2', 'base.qcow2', '8M');
  await qemuIo('base.qcow2', ['write -P 1 0 1M'], 'qcow2', chains);
  for (const [i, layer] of ['sn1', 'sn2', 'sn3', 'sn4'].entries()) {
    const below = i === 0 ? 'base.qcow2' : `sn${i}.qcow2`;
    const backing = ['-b', below, '-F', 'qcow2'];
    await mustIn(chains, 'qemu-img', 'create', '-q', '-f', 'qcow2', ...backing, `${layer}.qcow2`);
  }
  // The view's first megabyte: 448 KiB of it are written over above base.
  await qemuIo('sn1.qcow2', ['write -P 2 0 256k'], 'qcow2', chains);
  await qemuIo('sn2.qcow2', ['write -P 3 128k 192k'], 'qcow2', chains);
  await qemuIo('sn3.qcow2', ['write -z 256k 128k', 'write -P 4 2M 1M'], 'qcow2', chains);
  await qemuIo('sn4.qcow2', ['write -P 5 384k 64k'], 'qcow2', chains);
});

afterAll(cleanup);

test('there are programs, and each has an outcome that is looked at', () => {
  expect(PROGRAMS.map(({ name }) => name).sort()).toEqual(Object.keys(OUTCOMES).sort());
});

test('they mean something to the compiler', async () => {
  const files = PROGRAMS.map(({ text }, i) => {
    writeFileSync(join(dir, `program${i}.ts`), text);
    return `program${i}.ts`;
  });
  await typeCheck(dir, files);
});

test.for(PROGRAMS)('$name', async ({ name, text }) => {
  const at = mkdtempSync(join(dir, 'run-'));
  cpSync(chains, at, { recursive: true });
  writeFileSync(join(at, 'program.ts'), text);
  await OUTCOMES[name]?.(at, await runProgram(at, 'program.ts'));
});
