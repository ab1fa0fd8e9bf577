// What `check` prints about its result, as qemu-img does.

import type { CheckResult } from '../qcow2/check.ts';
import type { RepairResult } from '../qcow2/repair.ts';
import { twoDecimals } from './fixed.ts';

/** What a repair put right, or would. */
export type Fixed = Pick<RepairResult, 'leaksFixed' | 'corruptionsFixed'>;

/** In the order of qemu-img; what is zero is left out where it leaves it out. */
export function checkToJson(
  result: CheckResult,
  filename: string,
  fixed: Fixed = { leaksFixed: 0, corruptionsFixed: 0 },
): Record<string, unknown> {
  const count = (name: string, value: number) => (value === 0 ? {} : { [name]: value });
  return {
    'image-end-offset': result.imageEndOffset,
    ...count('compressed-clusters', result.compressedClusters),
    ...count('total-clusters', result.totalClusters),
    ...count('corruptions', result.corruptions),
    ...count('corruptions-fixed', fixed.corruptionsFixed),
    'check-errors': result.checkErrors,
    ...count('leaks', result.leaks),
    ...count('leaks-fixed', fixed.leaksFixed),
    ...count('allocated-clusters', result.allocatedClusters),
    filename,
    format: 'qcow2',
    ...count('fragmented-clusters', result.fragmentedClusters),
  };
}

export function fixedText({ leaksFixed, corruptionsFixed }: Fixed, dryRun: boolean): string {
  const [done, next] = dryRun
    ? ['would be', 'What would be left then:']
    : ['were found and', 'Double checking the fixed image now...'];
  return (
    `The following inconsistencies ${done} repaired:\n\n` +
    `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\n${next}\n`
  );
}

export function checkText(result: CheckResult): string {
  const { corruptions, leaks, checkErrors, totalClusters, allocatedClusters } = result;
  let text = '';
  if (corruptions === 0 && leaks === 0 && checkErrors === 0) {
    text += 'No errors were found on the image.\n';
  }
  if (corruptions > 0) {
    text +=
      `\n${corruptions} errors were found on the image.\n` +
      'Data may be corrupted, or further writes to the image may corrupt it.\n';
  }
  if (leaks > 0) {
    text +=
      `\n${leaks} leaked clusters were found on the image.\n` +
      'This means waste of disk space, but no harm to data.\n';
  }
  if (checkErrors > 0) {
    text += `\n${checkErrors} internal errors have occurred during the check.\n`;
  }
  if (totalClusters > 0 && allocatedClusters > 0) {
    const allocated = percent(allocatedClusters, totalClusters);
    const fragmented = percent(result.fragmentedClusters, allocatedClusters);
    const compressed = percent(result.compressedClusters, allocatedClusters);
    text +=
      `${allocatedClusters}/${totalClusters} = ${allocated} allocated, ` +
      `${fragmented} fragmented, ${compressed} compressed clusters\n`;
  }
  return `${text}Image end offset: ${result.imageEndOffset}\n`;
}

function percent(part: number, of: number): string {
  return `${twoDecimals((part * 100) / of)}%`;
}
