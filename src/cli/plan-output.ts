// The plan of a commit, for people and as JSON.

import type { CommitPlan } from '../commit/options.ts';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function humanBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return unit === 0 ? `${bytes} B` : `${Number(value.toFixed(2))} ${UNITS[unit]}`;
}

export function describePlan(plan: CommitPlan): string {
  const list = (label: string, items: readonly string[]) =>
    items.length === 0 ? [] : [`${label}: ${items.join(', ')}`];
  const lines = [
    `merge: ${plan.merged.join(' -> ')} -> ${plan.base} (${plan.baseFormat})`,
    `ranges: ${plan.ranges}`,
    `copy: ${humanBytes(plan.copyBytes)}`,
    `zero: ${humanBytes(plan.zeroBytes)}`,
    ...(plan.identicalBytes === null
      ? []
      : [`skip: ${humanBytes(plan.identicalBytes)} of these, which the base holds already`]),
    `space needed at most: ${humanBytes(plan.growthBytes)}${peakOf(plan)}`,
    ...(plan.newBaseSize > plan.baseSize
      ? [`base grows: from ${plan.baseSize} to ${plan.newBaseSize} bytes`]
      : []),
    ...(plan.rebuildsRefcounts ? [`refcounts of ${plan.base}: rebuilt first (it is dirty)`] : []),
    ...plan.relinks.map(({ overlay, backingFile }) => `relink: ${overlay} -> ${backingFile}`),
    ...list('give back space as it goes', plan.reclaims),
    ...(plan.empties === null ? [] : [`empty: ${plan.empties}`]),
    ...list(
      plan.relinks.length > 0 ? 'no longer needed' : 'no longer valid by itself',
      plan.invalidates.filter((name) => !plan.deletes.includes(name)),
    ),
    ...list('delete', plan.deletes),
    ...plan.bitmaps.map(
      ({ name, from, creates }) =>
        `bitmap ${name}: ${creates ? 'made' : 'merged'} from ${from.join(', ')}`,
    ),
    ...plan.bitmapsLeft,
    ...list('siblings that would see other data', plan.siblings),
    ...plan.siblingCopies.map(
      ({ filename, copyBytes, zeroBytes, growthBytes }) =>
        `first into ${filename}: copy ${humanBytes(copyBytes)}, zero ${humanBytes(zeroBytes)}, ` +
        `space needed at most ${humanBytes(growthBytes)}`,
    ),
    ...list('could not be read, and may be siblings', plan.unread),
    ...plan.refusals.map((reason) => `refused: ${reason}`),
    'Nothing was written.',
  ];
  return `${lines.join('\n')}\n`;
}

function peakOf({ reclaims, growthBytes, peakBytes }: CommitPlan): string {
  if (reclaims.length === 0 || growthBytes === 0) return '';
  return `, at a time ${humanBytes(peakBytes)}`;
}

export function planToJson(plan: CommitPlan): string {
  return `${JSON.stringify(planMembers(plan), null, 4)}\n`;
}

/** As in JSON, in its order. */
export function planMembers(plan: CommitPlan) {
  return {
    top: plan.top,
    base: plan.base,
    'base-format': plan.baseFormat,
    merged: plan.merged,
    ranges: plan.ranges,
    'copy-bytes': plan.copyBytes,
    'zero-bytes': plan.zeroBytes,
    'identical-bytes': plan.identicalBytes,
    'growth-bytes': plan.growthBytes,
    'peak-bytes': plan.peakBytes,
    'base-size': plan.baseSize,
    'new-base-size': plan.newBaseSize,
    'rebuilds-refcounts': plan.rebuildsRefcounts,
    reclaims: plan.reclaims,
    empties: plan.empties,
    relinks: plan.relinks.map(({ overlay, backingFile }) => ({
      overlay,
      'backing-file': backingFile,
    })),
    invalidates: plan.invalidates,
    deletes: plan.deletes,
    siblings: plan.siblings,
    'sibling-copies': plan.siblingCopies.map(({ filename, copyBytes, zeroBytes, growthBytes }) => ({
      filename,
      'copy-bytes': copyBytes,
      'zero-bytes': zeroBytes,
      'growth-bytes': growthBytes,
    })),
    unread: plan.unread,
    bitmaps: plan.bitmaps,
    'bitmaps-left': plan.bitmapsLeft,
    refusals: plan.refusals,
  };
}
