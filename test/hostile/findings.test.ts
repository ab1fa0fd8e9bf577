// What random hostile images have found, each by itself.

import { beforeAll, describe, expect, test } from 'vitest';
import { viewOf } from '../../src/qcow2/fields.ts';
import { parseHeader } from '../../src/qcow2/header.ts';
import { watchAllocations } from '../support/hostile/allocations.ts';
import { makeCorpus, type Specimen } from '../support/hostile/corpus.ts';
import { type Judgement, judge } from '../support/hostile/judge.ts';

const OFFSET = 0x00ff_ffff_ffff_fe00n;

let corpus: readonly Specimen[];
beforeAll(async () => {
  corpus = await makeCorpus();
});

/** Judges the chain of a specimen, of which the top says something else. */
async function judged(
  name: string,
  lie: (bytes: Uint8Array, view: DataView) => Uint8Array | undefined,
): Promise<Judgement> {
  const specimen = corpus.find((each) => each.name === name);
  if (specimen === undefined) throw new Error(`no specimen '${name}'`);
  const bytes = (specimen.files.get(specimen.top) ?? new Uint8Array()).slice();
  const top = lie(bytes, viewOf(bytes)) ?? bytes;
  return judge(new Map([...specimen.files, [specimen.top, top]]), specimen.top, specimen.keyed);
}

/** Where the first L2 table has an entry that says nothing. */
function emptyL2Entry(bytes: Uint8Array, view: DataView): number {
  const { l1TableOffset } = parseHeader(bytes);
  let at = Number(view.getBigUint64(l1TableOffset) & OFFSET);
  while (view.getBigUint64(at) !== 0n) at += 8;
  return at;
}

test('a bitmap directory whose file ends inside of a name is refused in words', async () => {
  for (let cut = 1; cut < 80; cut += 3) {
    const result = await judged('bitmaps', (bytes) => bytes.slice(0, bytes.length - cut));
    expect(result.findings).toEqual([]);
  }
});

describe('a top that is emptied table by table, and points to a table of its own as data,', () => {
  test.each(['bitmaps', 'snapshots', 'version 2'])('%s: keeps the commit away', async (name) => {
    const result = await judged(name, (bytes, view) => {
      const { refcountTableOffset } = parseHeader(bytes);
      view.setBigUint64(emptyL2Entry(bytes, view), BigInt(refcountTableOffset));
      return undefined;
    });
    expect(result).toEqual({ findings: [], outcome: 'commit refused' });
  });

  test('where all tables are made anew, it does no harm', async () => {
    const result = await judged('version 3', (bytes, view) => {
      const { refcountTableOffset } = parseHeader(bytes);
      view.setBigUint64(emptyL2Entry(bytes, view), BigInt(refcountTableOffset));
      return undefined;
    });
    expect(result).toEqual({ findings: [], outcome: 'committed' });
  });
});

test('an L1 table of which the file has next to nothing takes no memory', async () => {
  const largest = watchAllocations();
  for (const name of ['version 3', 'version 2', 'snapshots', 'extended L2 entries']) {
    const result = await judged(name, (_bytes, view) => {
      view.setUint32(36, 2 ** 22);
      return undefined;
    });
    expect(result).toEqual({ findings: [], outcome: 'refused' });
  }
  expect(largest.bytes).toBeLessThan(2 ** 20);
});
