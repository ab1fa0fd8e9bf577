// Repairs an image: what a check finds is put right as `qemu-img check -r` does it, in its words,
// and further where that would leave tables that lie where the guest's data is.
//
// Each step is safe by itself, and a repair that was interrupted is simply run again: refcounts and
// flags change in place only in clusters that hold nothing else, each by itself; everything else is
// written where nothing points, and one write of the header switches to it.

import { ImageError, withState } from '../errors.ts';
import type { Storage } from '../io/storage.ts';
import { incompleteSnapshots, inTableWords, resultOf } from './check.ts';
import { type CheckResult, Findings, type Tell } from './check-findings.ts';
import { overhangingHint } from './header.ts';
import { type HeaderPatch, HeaderSector } from './header-sector.ts';
import { checkRoomForRepair } from './l2-room.ts';
import { checkClusterCount } from './reference-counts.ts';
import { dropBrokenBitmaps, dropVoidBitmaps } from './repair-bitmaps.ts';
import { mendLostBits } from './repair-lost-bits.ts';
import { mendZeros } from './repair-mend.ts';
import { renew } from './repair-renew.ts';
import { type Fix, RepairRound } from './repair-round.ts';
import { type RepairState, readState } from './repair-state.ts';
import { readSnapshotTable } from './snapshots.ts';
import { INCOMPATIBLE, KNOWN_AUTOCLEAR, MAX_SNAPSHOTS } from './spec.ts';

export type { Fix } from './repair-round.ts';

export interface RepairResult extends CheckResult {
  readonly leaksFixed: number;
  readonly corruptionsFixed: number;
}

/** Rounds after the first, for what comes up when tables have moved. */
const MORE_ROUNDS = 4;

/**
 * Durable when it resolves. Counts are of what was found, `...Fixed` of what was put right; what is
 * wrong afterwards, only another check says. Nobody else may use the image. Throws where the image
 * makes no sense at all, and where there is no room for what has to be written anew.
 */
export async function repairImage(storage: Storage, fix: Fix, tell: Tell): Promise<RepairResult> {
  try {
    return await repair(storage, fix, tell);
  } catch (error) {
    throw withState(
      error,
      'What could be read of the image still can be; ' +
        'once the cause is gone, the same command completes the repair.',
    );
  }
}

async function repair(storage: Storage, fix: Fix, tell: Tell): Promise<RepairResult> {
  const table = new Findings(tell);
  await checkSizes(storage);
  await patchHeader(storage, ({ autoclearFeatures }) => ({
    autoclearFeatures: autoclearFeatures & KNOWN_AUTOCLEAR,
  }));
  if (fix === 'all' && (await dropBrokenBitmaps(storage, tell))) table.corruptionsFixed++;
  const state = await repairSnapshotTable(storage, fix, table);
  if (fix === 'all') table.corruptionsFixed += await mendLostBits(state, tell);
  const round = new RepairRound(state, fix, tell);
  await round.run();
  const rewritten = fix === 'all' && table.corruptions > 0;
  const last = await finish(round, fix, rewritten);
  if (rewritten) {
    table.corruptionsFixed += table.corruptions;
    table.corruptions = 0;
  }
  await markSound(storage, fix, last, table);
  await dropVoidBitmaps(storage);
  const result = resultOf(round.state, round.findings, round.usage, round.imageEndOffset);
  return {
    ...result,
    corruptions: result.corruptions + table.corruptions,
    corruptionsFixed: round.findings.corruptionsFixed + table.corruptionsFixed,
    leaksFixed: round.findings.leaksFixed,
  };
}

/** What was read for it is not kept: 65,536 snapshots take some 70 MB. */
async function checkSizes(storage: Storage): Promise<void> {
  const found = await readState(storage);
  checkClusterCount(found);
  await checkRoomForRepair(found);
}

/** Moves what has to, and puts right what that brought up; returns the last round. */
async function finish(round: RepairRound, fix: Fix, rewritten: boolean): Promise<RepairRound> {
  let last = round;
  let snapshotTable = rewritten;
  for (let i = 0; i < MORE_ROUNDS && (last.deferred || snapshotTable); i++) {
    const { state } = last;
    const moves = (last.l1 || last.l2Tables.size > 0) && isInFile(state);
    await renew(state, {
      l1: moves,
      // What shares its cluster may do so wherever it lies: then this is when flags are written.
      l1Table: last.l1Table,
      l2Tables: last.l2Tables,
      mend: (bytes) => mendZeros(bytes, state.geometry),
      snapshotTable,
    });
    snapshotTable = false;
    last = new RepairRound(await readState(state.storage), fix, () => undefined);
    await last.run();
  }
  return last;
}

/** An L1 table that was cut off is not to look as if it had been empty. */
function isInFile({ storage, geometry, tables }: RepairState): boolean {
  return tables.l1Offset + tables.l1Entries * 8 - storage.size < geometry.clusterSize;
}

/** Changes the header where that makes a difference. */
async function patchHeader(
  storage: Storage,
  change: (fields: HeaderSector['fields']) => HeaderPatch,
): Promise<void> {
  const header = await HeaderSector.read(storage);
  const old = header.fields;
  if (old.version < 3) return;
  const patch = change(old);
  const keys = Object.keys(patch) as (keyof HeaderPatch)[];
  if (keys.every((key) => patch[key] === old[key])) return;
  await header.write(patch);
  await storage.flush();
}

async function repairSnapshotTable(
  storage: Storage,
  fix: Fix,
  findings: Findings,
): Promise<RepairState> {
  const sector = await HeaderSector.read(storage);
  const stored = sector.fields.nbSnapshots;
  const overhanging = stored - MAX_SNAPSHOTS;
  if (fix === 'leaks') {
    if (overhanging > 0) {
      const message = `ERROR snapshot table too large\n${overhangingHint(overhanging)}`;
      throw new ImageError('corrupt', message, { errno: 'EFBIG' });
    }
    const { header } = await readState(storage);
    await readSnapshotTable(storage, header).catch(inTableWords);
  } else if (overhanging > 0) {
    findings.tell(`Discarding ${overhanging} overhanging snapshots`, 'corruption');
  }
  const state = await readState(storage, {
    tooLong(count) {
      const what = `Discarding ${count} overhanging snapshots (snapshot table is too big)`;
      findings.tell(what, 'corruption');
    },
    tooMuchExtraData(index, size) {
      const what = 'Discarding too much extra metadata in snapshot table entry';
      findings.corrupt(`${what} ${index} (${size} > 1024)`);
    },
  }).catch(inTableWords);
  const { snapshots } = state.snapshotTable;
  if (snapshots.length < stored) {
    await sector.write({ nbSnapshots: snapshots.length });
    await storage.flush();
    findings.corruptionsFixed += stored - snapshots.length;
  }
  const verb = fix === 'all' ? 'Repairing' : 'ERROR';
  for (const i of incompleteSnapshots(state.header.version, snapshots)) {
    findings.corrupt(`${verb} snapshot table entry ${i} is incomplete`);
  }
  return state;
}

/** The dirty bit speaks of refcounts alone, the corrupt bit of anything. */
async function markSound(
  storage: Storage,
  fix: Fix,
  { findings, deferred }: RepairRound,
  table: Findings,
): Promise<void> {
  if (findings.checkErrors > 0) return;
  const isSound = findings.corruptions + table.corruptions === 0 && !deferred;
  const { dirty, corrupt } = INCOMPATIBLE;
  const cleared = (isSound ? dirty | corrupt : 0n) | (fix === 'all' ? dirty : 0n);
  await patchHeader(storage, ({ incompatibleFeatures }) => ({
    incompatibleFeatures: incompatibleFeatures & ~cleared,
  }));
}
