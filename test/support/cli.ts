// Runs our command as a user does: the built bundle, in its own process, also under QEMU's name.

import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Outcome, run } from './qemu.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const CLI = join(ROOT, 'dist', 'cli.cjs');

export function qimg(args: readonly string[], cwd: string, env = {}): Promise<Outcome> {
  return run(process.execPath, [CLI, ...args], { cwd, env: { ...process.env, ...env } });
}

/** A folder with a link named qemu-img to our command, and the way to run it. */
export function asQemu(): {
  readonly link: string;
  run(args: readonly string[], cwd: string): Promise<Outcome>;
  remove(): void;
} {
  const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-link-'));
  const link = join(dir, 'qemu-img');
  symlinkSync(CLI, link);
  return {
    link,
    run: (args, cwd) => run(process.execPath, [link, ...args], { cwd }),
    remove: () => rmSync(dir, { recursive: true }),
  };
}
