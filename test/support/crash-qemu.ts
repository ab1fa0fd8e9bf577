// States that a power cut left, judged by QEMU's own check.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseHeader } from '../../src/qcow2/header.ts';
import { INCOMPATIBLE } from '../../src/qcow2/spec.ts';
import type { Files } from './crash.ts';
import { isQcow2 } from './crash-trial.ts';
import { run } from './qemu.ts';

/** Throws where `qemu-img check` finds more than leaks. Resolves to the number of images it looked at. */
export async function judgeByQemu(files: Files): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'qimg-ts-cut-'));
  try {
    for (const [name, bytes] of files) await writeFile(join(dir, basename(name)), bytes);
    const images = [...files].filter(([, bytes]) => isQcow2(bytes) && canBeChecked(bytes));
    await Promise.all(images.map(([name]) => check(dir, basename(name))));
    return images.length;
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Without a key it opens none; refcounts of a dirty one wait to be rebuilt. */
function canBeChecked(bytes: Uint8Array): boolean {
  const { cryptMethod, incompatibleFeatures } = parseHeader(bytes);
  return cryptMethod === 0 && (incompatibleFeatures & INCOMPATIBLE.dirty) === 0n;
}

/** Each by itself: what is being removed may stand on what is gone. */
async function check(dir: string, name: string): Promise<void> {
  const alone = { driver: 'qcow2', file: { driver: 'file', filename: name }, backing: null };
  const args = ['check', `json:${JSON.stringify(alone)}`];
  const { code, stdout, stderr } = await run('qemu-img', args, { cwd: dir });
  if (code !== 0 && code !== 3) {
    throw new Error(`qemu-img check ${name}: ${code}\n${stdout}${stderr}`);
  }
}
