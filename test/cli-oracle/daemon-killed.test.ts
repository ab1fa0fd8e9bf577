// The daemon killed at any instant of a job, with a guest that writes: what was flushed is there, and
// the chain is sound.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI } from '../support/cli.ts';
import { instants } from '../support/kill.ts';
import { run } from '../support/qemu.ts';
import {
  DEVICE,
  expectedView,
  guest,
  KIB,
  makeChain,
  nameOf,
  SIZE,
  serveChain,
  view,
  WRITES,
  writeCommands,
} from '../support/served-chain.ts';

test.each(instants(9, 5).map((share, i) => [i, share] as const))(
  'killed in the midst of a job (%i): the chain is sound, and what was flushed is there',
  async (_, share) => {
    const dir = await makeChain();
    const { running, client } = await serveChain(dir);
    const flushed = Math.floor(WRITES.length / 2);
    expect((await guest(dir, [...writeCommands.slice(0, flushed), 'flush'])).code).toBe(0);
    const writing = guest(dir, writeCommands.slice(flushed));
    client.send(
      `${JSON.stringify({
        execute: 'block-commit',
        arguments: { device: DEVICE, base: 'sn1.qcow2', top: 'sn3.qcow2', speed: 40_000_000 },
      })}\n`,
    );
    await new Promise((resolve) => setTimeout(resolve, 400 * share));
    running.child.kill('SIGKILL');
    await running.ended;
    await writing;
    for (let i = 0; i <= 4; i++) {
      // Leaked clusters at most.
      const { code } = await run('qemu-img', ['check', '-q', nameOf(i)], { cwd: dir });
      expect([0, 3]).toContain(code);
    }
    const [now, before, after] = [
      await view(dir),
      readFileSync(join(dir, 'before.raw')),
      expectedView(dir),
    ];
    for (let at = 0; at < SIZE; at += 4 * KIB) {
      const part = (bytes: Buffer) => bytes.subarray(at, at + 4 * KIB);
      const index = WRITES.findIndex(([place]) => place * 4 * KIB === at);
      const asBefore = part(now).equals(part(before));
      const asAfter = part(now).equals(part(after));
      if (index >= 0 && index < flushed) expect([at, asAfter]).toEqual([at, true]);
      else expect([at, asBefore || asAfter]).toEqual([at, true]);
    }
    // The same again, to the end.
    const commit = ['commit', '--top', 'sn3.qcow2', '-b', 'sn1.qcow2', 'sn4.qcow2'];
    const { code, stderr } = await run(process.execPath, [CLI, ...commit], { cwd: dir });
    if (code !== 0) expect(stderr).toMatch(/sn3\.qcow2/);
    expect((await view(dir)).equals(now)).toBe(true);
  },
);
