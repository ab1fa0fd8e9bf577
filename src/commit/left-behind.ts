// Files that `--relink --delete` merged and a run before was stopped from removing: nothing leads to
// them any more but the note that the relinked image has of what it stood on. The note goes last.

import { asQcow2, type Chain } from '../chain/chain.ts';
import { allocatedIn } from '../chain/extents.ts';
import { fileBehind } from '../chain/file-behind.ts';
import { ImageError } from '../errors.ts';
import { leftBehind } from '../qcow2/backing.ts';
import { openMerged } from './finished.ts';
import { changesBase } from './identical.ts';
import type { CommitOptions } from './options.ts';
import { planSteps, shapeOf, untilAborted } from './plan.ts';
import type { Range } from './range.ts';

/** The layers of that run that are still there, from the top down, open; null where it left none. */
export async function findLeftBehind(
  { topIndex, baseIndex, top, base }: Range,
  { host, relink, secrets, delete: deletes }: CommitOptions,
): Promise<Chain | null> {
  if (!relink || !deletes || topIndex > 0 || baseIndex > 1) return null;
  const name = leftBehind(asQcow2(top.layer).header);
  const file = name === null ? null : fileBehind(top.filename, name);
  if (file === null || (await host.identify(file))?.kind !== 'file') return null;
  const chain = await openMerged(file, base.id, { host, ...(secrets && { secrets }) });
  if (chain.layers.length > 0) return chain;
  await chain.close();
  return null;
}

/** Base holds what the commit brought down: it has to hold what they would show below the top, too. */
export async function checkLeftBehind(
  { top, base }: Range,
  { layers }: Chain,
  { signal }: CommitOptions,
): Promise<void> {
  const merged = [top, ...layers].map(({ layer }) => layer);
  const steps = planSteps(
    allocatedIn(merged, 0, Math.min(top.layer.size, base.layer.size)),
    shapeOf(base.layer, base.layer.size),
  );
  if (!(await changesBase(untilAborted(steps, signal), base.layer))) return;
  const names = layers.map(({ filename }) => `'${filename}'`).join(', ');
  throw new ImageError(
    'invalid',
    `'${base.filename}' does not hold all that there is in ${names}`,
    {
      hint:
        'The commit itself is complete. A run before was stopped from removing them, and they were ' +
        'changed since: remove them by hand if nobody needs them.',
    },
  );
}

/** Nothing is left to be removed. */
export async function forgetLeftBehind(
  { top }: Range,
  { relink, delete: deletes }: CommitOptions,
): Promise<void> {
  if (!relink || !deletes) return;
  const image = asQcow2(top.layer);
  const { backingFile, backingFormat } = image.header;
  if (leftBehind(image.header) === null || backingFile === null || backingFormat === null) return;
  await image.setBackingFile({ name: backingFile, format: backingFormat });
}
