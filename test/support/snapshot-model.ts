// A disk with internal snapshots as arrays of bytes, and the comparison with an image.

import { expect } from 'vitest';
import { MemoryStorage } from '../../src/io/memory.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { applySnapshot } from '../../src/qcow2/snapshot-changes.ts';
import { expectBytes, expectSound, findingsIn, viewOf } from './memory-images.ts';

export class SnapshotModel {
  disk: Uint8Array;
  snapshots: { readonly name: string; readonly content: Uint8Array }[] = [];

  constructor(size: number) {
    this.disk = new Uint8Array(size);
  }

  /** The same, on its own from now on. */
  copy(): SnapshotModel {
    const copy = new SnapshotModel(0);
    copy.disk = this.disk.slice();
    copy.snapshots = [...this.snapshots];
    return copy;
  }

  resize(size: number): void {
    const disk = new Uint8Array(size);
    disk.set(this.disk.subarray(0, size));
    this.disk = disk;
  }

  create(name: string): void {
    this.snapshots.push({ name, content: this.disk.slice() });
  }

  apply(name: string): void {
    this.disk = (this.snapshots.find((each) => each.name === name)?.content ?? this.disk).slice();
  }

  delete(name: string): void {
    this.snapshots = this.snapshots.filter((each) => each.name !== name);
  }
}

/** Each snapshot shows what it has to: gone back to on a copy, which is sound then. */
export async function expectSnapshots(
  file: Uint8Array,
  model: SnapshotModel,
  { leaks = false } = {},
): Promise<void> {
  const image = await Qcow2Image.open(new MemoryStorage(file.slice()));
  const names = (await image.snapshots()).map(({ name }) => name);
  expect(names).toEqual(model.snapshots.map(({ name }) => name));
  for (const { name, content } of model.snapshots) {
    const storage = new MemoryStorage(file.slice());
    const copy = await Qcow2Image.open(storage);
    await applySnapshot(copy, name);
    expectBytes(await viewOf(copy), content, `snapshot ${name}`);
    await copy.close();
    if (leaks) expect(await findingsIn(storage)).toMatchObject({ corruptions: 0 });
    else await expectSound(storage);
  }
}
