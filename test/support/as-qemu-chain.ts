// The files beside which command lines are compared: a chain of three, one over a raw file, one whose
// backing file is gone, and what is no image.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustIn, qemuIo } from './qemu.ts';

export async function fillWithChain(dir: string): Promise<void> {
  const create = (...args: readonly string[]) => mustIn(dir, 'qemu-img', 'create', '-q', ...args);
  const over = (name: string, format: string) => ['-f', 'qcow2', '-b', name, '-F', format];
  const write = (name: string, ...commands: readonly string[]) =>
    qemuIo(name, commands, 'qcow2', dir);
  await create('-f', 'qcow2', 'b.qcow2', '3M');
  await write('b.qcow2', 'write -P 1 0 128k');
  await create(...over('b.qcow2', 'qcow2'), 'm.qcow2', '4M');
  await write('m.qcow2', 'write -P 2 64k 128k');
  await create(...over('m.qcow2', 'qcow2'), 't.qcow2', '5M');
  await write('t.qcow2', 'write -P 3 128k 192k', 'write -z 4M 128k');
  await create('-f', 'raw', 'r.raw', '1M');
  await create(...over('r.raw', 'raw'), 'u.qcow2', '2M');
  await write('u.qcow2', 'write -P 4 64k 64k', 'write -P 5 1900k 64k');
  await create('-u', ...over('gone.qcow2', 'qcow2'), 'g.qcow2', '1M');
  mkdirSync(join(dir, 'd'));
  writeFileSync(join(dir, 'small.raw'), 'some text');
}
