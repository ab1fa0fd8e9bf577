// What check says about its result.

import { expect, test } from 'vitest';
import { checkText, checkToJson } from '../../src/cli/check-output.ts';
import type { CheckResult } from '../../src/qcow2/check.ts';

const CLEAN: CheckResult = {
  corruptions: 0,
  leaks: 0,
  checkErrors: 0,
  totalClusters: 16,
  allocatedClusters: 0,
  fragmentedClusters: 0,
  compressedClusters: 0,
  imageEndOffset: 262144,
};

test('a sound image without data', () => {
  expect(checkText(CLEAN)).toBe('No errors were found on the image.\nImage end offset: 262144\n');
});

test('a sound image with data', () => {
  const used = { allocatedClusters: 8, fragmentedClusters: 1, compressedClusters: 3 };
  expect(checkText({ ...CLEAN, ...used })).toBe(
    'No errors were found on the image.\n' +
      '8/16 = 50.00% allocated, 12.50% fragmented, 37.50% compressed clusters\n' +
      'Image end offset: 262144\n',
  );
});

test('each kind of finding has its words', () => {
  expect(checkText({ ...CLEAN, corruptions: 2, leaks: 3, checkErrors: 4 })).toBe(
    '\n2 errors were found on the image.\n' +
      'Data may be corrupted, or further writes to the image may corrupt it.\n' +
      '\n3 leaked clusters were found on the image.\n' +
      'This means waste of disk space, but no harm to data.\n' +
      '\n4 internal errors have occurred during the check.\n' +
      'Image end offset: 262144\n',
  );
});

test.each([
  [1, 3, '33.33%'],
  [2, 3, '66.67%'],
  [1, 800, '0.12%'],
  [3, 800, '0.38%'],
  [5, 800, '0.62%'],
  [7, 800, '0.88%'],
  [1, 1, '100.00%'],
])('%d of %d clusters are %s: a tie goes to the even digit', (part, total, words) => {
  const text = checkText({ ...CLEAN, allocatedClusters: part, totalClusters: total });
  expect(text).toContain(`${part}/${total} = ${words} allocated`);
});

test('the JSON leaves out what qemu-img leaves out', () => {
  expect(checkToJson({ ...CLEAN, totalClusters: 0 }, 'disk')).toEqual({
    'image-end-offset': 262144,
    'check-errors': 0,
    filename: 'disk',
    format: 'qcow2',
  });
});

test('the JSON has all counts, in the order of qemu-img', () => {
  const counts = { corruptions: 1, leaks: 2, checkErrors: 3, allocatedClusters: 4 };
  const all = { ...CLEAN, ...counts, fragmentedClusters: 5, compressedClusters: 6 };
  expect(Object.entries(checkToJson(all, 'disk'))).toEqual([
    ['image-end-offset', 262144],
    ['compressed-clusters', 6],
    ['total-clusters', 16],
    ['corruptions', 1],
    ['check-errors', 3],
    ['leaks', 2],
    ['allocated-clusters', 4],
    ['filename', 'disk'],
    ['format', 'qcow2'],
    ['fragmented-clusters', 5],
  ]);
});
