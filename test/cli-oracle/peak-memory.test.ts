// The most memory that a commit takes does not follow the disk, nor its tables.

import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import { nodeHost } from '../../src/io/node-host.ts';
import { MIB } from '../../src/units.ts';
import { CLI } from '../support/cli.ts';
import { Images } from '../support/images.ts';
import { checkClean, run } from '../support/qemu.ts';

const TIB = 2 ** 40;
const CLUSTER = 64 * 1024;
/** An L2 table covers so much. */
const COVERAGE = 512 * MIB;
/** Of 32,768: 160 MiB, far more than may be in memory. */
const TABLES = 2560;
/** Memory of tables that were let go of waits for the collector: the tables in use take 16 MiB. */
const BOUND = 160 * MIB;

/** Tells the most memory that the process has had, in KiB, when it ends. */
const PROBE = `
process.on('exit', () => {
  require('node:fs').writeSync(2, 'peak ' + process.resourceUsage().maxRSS);
});
`;

test('16 TiB whose tables are 1 % filled, with zero clusters', { timeout: 120_000 }, async () => {
  const images = new Images();
  await images.create('base.qcow2', '16T');
  await images.create('top.qcow2', '16T', { backing: 'base.qcow2' });
  const filename = images.path('top.qcow2');
  const top = await openChain(filename, { host: nodeHost, writable: true, cache: 'unsafe' });
  const step = (16 * TIB) / TABLES;
  for (let i = 0; i < TABLES; i++) {
    const at = Math.floor((i * step) / COVERAGE) * COVERAGE;
    await top.top.zero(at, 82 * CLUSTER);
  }
  await top.close();
  expect(statSync(filename).size).toBeGreaterThan(TABLES * CLUSTER);

  const probe = join(images.dir, 'probe.cjs');
  writeFileSync(probe, PROBE);
  for (const more of [['--dry-run'], ['-q']]) {
    const args = ['--require', probe, CLI, 'commit', ...more, '-t', 'unsafe', 'top.qcow2'];
    const { code, stderr } = await run(process.execPath, args, { cwd: images.dir });
    expect(code).toBe(0);
    const peak = Number(/peak (\d+)/.exec(stderr)?.[1]) * 1024;
    expect(peak).toBeLessThan(BOUND);
  }
  await checkClean(images.path('base.qcow2'));
});
